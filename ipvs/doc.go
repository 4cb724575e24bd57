// Package ipvs keeps virtual servers of the Linux kernel's IPVS (IP Virtual Server) in the state that you declare.
//
// # What it owns in the kernel
//
// The services in one network namespace that Config.Owns names, by address prefix or firewall mark, with all their destinations. Services
// outside of it are left alone; Client.Foreign lists them. Nothing is ever flushed and loaded again: Sync changes what differs.
// Timeouts, sync daemons, sysctls and connections belong to the whole namespace and have methods of their own.
//
// # What zero means
//
// The zero State is no service. A service's zero Scheduler is wlc, a destination's zero Method is masquerade, and its zero Weight is weight
// zero: it gets no new connections. Config.Owns has no default.
//
// # How it writes
//
// IPVS knows no transactions, no generations and no events. Changes are sent many to a datagram, each is carried out by itself, and one that
// the kernel refuses is named in the error while the others are done. Listings of the kernel are not consistent while others write (services
// come twice or not at all), so they are repeated until two agree. What several writers do to the same service at the same time is
// settled by the last one; Sync starts over when the kernel contradicts it.
//
// # Needs
//
// CAP_NET_ADMIN in the initial user namespace, so root, not a user namespace of one's own. Linux 4.1 or later with CONFIG_IP_VS, and CONFIG_IP_VS_IPV6
// for IPv6; CONFIG_IP_VS_PROTO_TCP, _UDP and _SCTP for the protocols; CONFIG_IP_VS_RR and so on for the schedulers (twos is not in Debian's
// kernels); CONFIG_IP_VS_PE_SIP for the engine; CONFIG_IP_VS_NFCT for the sysctl conntrack. The kernel loads the modules by itself where
// it can (ip_vs, ip_vs_rr, ...); this package never runs modprobe. GUE needs Linux 5.3, GRE 5.3, checksums in tunnels 5.3, twos 5.13.
//
// Packets are forwarded only with net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1). They pass the hooks input, output and postrouting,
// never forward: filters on forward do not see them.
//
// # Out of scope
//
// Health checks, masquerading of clients and source ranges (see package nat), and choosing which machine has the service's address.
package ipvs
