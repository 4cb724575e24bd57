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
// come twice or not at all), so they are repeated until one is like the one before, a few times, and services that are not in all of them are asked
// for one by one. What several writers do to the same service at the same time is settled by the last one; Sync and Update read and write
// again what the kernel contradicts.
//
// # Needs
//
// Everything needs CAP_NET_ADMIN in the initial user namespace (IPVS is closed to other user namespaces, whatever capabilities one has there; New alone needs
// none), CAP_SYS_ADMIN too to enter a network namespace that the caller is not in, and Linux 4.1 or later with CONFIG_IP_VS. The kernel loads modules by itself
// where it can (ip_vs, ip_vs_rr, ip_vs_pe_sip, ...); this package never runs modprobe. Without a module of that name the errors are ErrNoIPVS, ErrNoScheduler and
// ErrNoEngine. Beyond that, by feature:
//
//	IPv6                CONFIG_IP_VS_IPV6
//	TCP, UDP, SCTP      CONFIG_IP_VS_PROTO_TCP, _UDP, _SCTP
//	schedulers          CONFIG_IP_VS_RR, _WRR, _LC, _WLC, _LBLC, _LBLCR, _DH, _SH, _SED, _NQ; _FO (Linux 3.18), _OVF (4.3), _MH (4.18),
//	                    _TWOS (5.13; Debian's kernels have none)
//	marks               nothing of IPVS; somebody sets them, with nftables in prerouting say
//	persistence         nothing; the engine sip CONFIG_IP_VS_PE_SIP and NF_CONNTRACK_SIP. Sysctls.ExpireQuiescent, or draining never ends
//	Masquerade          net.ipv4.ip_forward=1, net.ipv6.conf.all.forwarding=1: answers are forwarded, so they must come back through this machine
//	Direct              on the destinations: the service's address on lo, and net.ipv4.conf.all.arp_ignore=1 and arp_announce=2 where clients share
//	                    their link. This machine need not forward
//	Tunneling           as Direct, and on the destinations a device that unpacks: CONFIG_NET_IPIP, IPV6_SIT, IPV6_TUNNEL; for GRE NET_IPGRE, IPV6_GRE;
//	                    for GUE NET_FOU, NET_FOU_IP_TUNNELS, IPV6_FOU; with rp_filter=0. On this machine GRE and GUE take Linux 5.3. Over the
//	                    other family: no synchronization daemon, the kernel refuses one beside the other
//	Local               Range.Open for the service's address
//	daemons             a multicast route on the interface; net.ipv4.vs.sync_threshold says after how many packets a connection is told.
//	                    Group, Port, TTL, MaxLen and IPv6: Linux 4.3
//	Sysctls, Connections  /proc mounted; Sysctls.Conntrack CONFIG_IP_VS_NFCT and NF_CONNTRACK
//	SyncRanges          CONFIG_NF_TABLES_INET and NFT_REJECT_INET (Linux 5.10)
//	Drain               Sysctls.ConnReuseMode 1, or clients that use a port again come back to the drained destination
//	removal             Sysctls.ExpireNodest, or connections of removed destinations hang
//	clients on the node Range.Source, or the kernel takes the service's own address as theirs
//
// What the switches cure is described at Sysctls; Recommended has them. Masqueraded packets, and those of the other methods, pass the hooks input, output and
// postrouting, never forward: a policy on the forward hook does not see them, one on postrouting with connection tracking does when Sysctls.Conntrack is set.
//
// The tests run on Linux 6.1, which lacks nothing but the scheduler twos. Before 5.9 the kernel delays reused ports by a second where ConnReuseMode is 1 and
// Conntrack is set.
//
// # Out of scope
//
// Health checks, masquerading of clients and source ranges (see package nat), and choosing which machine has the service's address.
package ipvs
