// Package ipvs keeps virtual servers of the Linux kernel's IPVS (IP Virtual Server) in the state that you declare.
//
// # What it owns in the kernel
//
// The services in one network namespace that Config.Owns names, by address prefix or firewall mark, with all their destinations. Services
// outside of it are left alone; Client.Foreign lists them. Nothing is ever flushed and loaded again: Sync changes what differs.
// Ranges of virtual addresses (SyncRanges) are local routes with protocol 112 and the nftables table inet podplumb-ipvs.
// Timeouts, synchronization daemons, sysctls and connections belong to the whole namespace and have methods of their own.
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
// CAP_NET_ADMIN in the initial user namespace, so root, and not in a user namespace of one's own. Linux 4.1 or later with
//
//	CONFIG_IP_VS, CONFIG_IP_VS_IPV6           all, IPv6
//	CONFIG_IP_VS_PROTO_TCP, _UDP, _SCTP       the protocols
//	CONFIG_IP_VS_RR and so on                 each scheduler; fo Linux 3.18, ovf 4.3, mh 4.18, twos 5.13 (not in Debian's kernels)
//	CONFIG_IP_VS_PE_SIP                       the persistence engine sip
//	CONFIG_IP_VS_NFCT, NF_CONNTRACK           Sysctls.Conntrack
//	CONFIG_NF_TABLES_INET, NFT_REJECT_INET    the guard of SyncRanges (Linux 5.10)
//	NET_IPIP, IPV6_TUNNEL, NET_FOU, NET_IPGRE on the destinations of tunnels; GUE and GRE need Linux 5.3 on both sides
//
// The kernel loads the modules by itself where it can (ip_vs, ip_vs_rr, ...); this package never runs modprobe. /proc must be mounted for sysctls
// and connections.
//
// Packets are forwarded only with net.ipv4.ip_forward=1 (net.ipv6.conf.all.forwarding=1). They pass the hooks input, output and postrouting,
// never forward: a policy on the forward hook does not see them, one on postrouting with connection tracking does when Sysctls.Conntrack
// is set. The switches that matter, and what each cures, are described at Sysctls; Recommended has them.
//
//	masquerade        answers must come back through this machine; Sysctls.Conntrack where clients are masqueraded as well
//	direct, tunnel    the destinations hold the service's address on a device that does not answer ARP, such as lo, and with tunnels
//	                  have rp_filter off
//	persistence       Sysctls.ExpireQuiescent, or draining never ends
//	removal           Sysctls.ExpireNodest, or connections of removed destinations hang
//	draining          ConnReuseMode 1, or clients that use a port again come back to the drained destination
//	daemons           net.ipv4.vs.sync_threshold says after how many packets a connection is told
//	node's clients    Range.Source, or the kernel takes the service's own address as theirs
//
// # Out of scope
//
// Health checks, masquerading of clients and source ranges (see package nat), and choosing which machine has the service's address.
package ipvs
