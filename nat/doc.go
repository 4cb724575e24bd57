// Package nat masquerades networks and leads addresses and ports to weighted
// targets, any number of them at the same cost a packet.
//
// It owns one nftables table of family inet, whole (Config.Table, by default
// "podplumb-nat"), and the conntrack entries of connections whose target it
// removes: those of UDP, others when Forward.Drain says so. It never touches
// other tables.
//
// The table is flat: a forward is an element in a map, a target is an element
// in another, and no chain, rule or anonymous set belongs to one alone.
//
//	forwards4:  address . protocol . port         -> lane number
//	lanes:      lane number                       -> chain that draws a slot
//	targets4:   address . protocol . port . slot  -> address . port
//
// The lane number travels from the first map to the second in bits of the
// packet mark (Config.Mark), which are cleared at once; the others are kept.
// A lane is a chain that draws from a number of slots, at random or by the
// client's address; forwards with as many slots share it. A target has as
// many slots as its weight. So one change touches a few elements however many
// others there are, and what a connection's first packet costs does not depend
// on how many there are either. Packets of known connections meet two
// comparisons.
//
// Node ports are forwards of the unspecified address and live in the same
// maps. Client affinity is one dynamic map for all forwards (affinity4): new
// connections are learnt there after translation, and a target that goes is
// forgotten in the transaction that removes it. Source ranges are one
// interval set for all forwards; a change to it costs time in proportion to
// the ranges there are.
//
// A forward with Near targets has two lanes: its first number leads to a lane
// that asks whether the client is near, which puts a second number in the
// mark. A RoundRobin forward has a lane of its own, because the kernel counts
// turns by rule. With State.Localhost, forwards are served on loopback
// addresses without route_localnet: the source of such packets is rewritten
// before conntrack sees them, and their answers' destination after it.
//
// # Short-lived processes
//
// An element that forwards share has the number of its uses beside it, and
// each range its length. So a new Client's Update reads what its Change names,
// key by key, and nothing else; others' changes at the same time make it look
// again. Config.Shared is for such processes: an owned table belongs to one
// socket at a time, and whoever comes meanwhile is refused (EPERM), so that
// owned tables are for one process that stays. A Change with an Owner neither
// takes nor drops what is another's (ConflictError). PlanUpdate tells what an
// Update would do, Lookup what is there, Names whose everything is.
//
// A change is one transaction: packets see all of it or nothing. A packet
// that met the forward before and the slot after a change looks once more;
// what finds no target then is refused, never let through. A connection to an
// address that has forwards, or to a Virtual range, that no forward serves is
// rejected by TCP reset or ICMP port unreachable, or dropped. Traffic that
// the host sends itself is treated like traffic that it forwards.
//
// A Network leaves under the address of the outgoing link, or under those of
// a Pool. A Redirect leads a port of the host to another.
//
// # Capture
//
// State.Capture leads the TCP connections and the DNS of a namespace to a
// proxy in it, such as a service mesh's. What is captured, and what is not, is
// elements of sets: a port that begins to listen is one element
// (Change.Capture), and only marks are rules. OriginalDst tells the proxy
// where a connection was to go.
//
// Only first packets are led anywhere. Connections that run go on, captured
// or not, through every change and through the replacement of the whole table,
// as long as there is a table; Capture.Strict ends those that were never
// captured. Capture.Closed refuses ports that are not captured, so that a
// server cannot be reached before its port is. What should have been captured
// and was not is never let through: first packets that met a change are
// dropped, so that their client sends them again a second later, and so are
// TCP packets going out that conntrack cannot place. The proxy's ports refuse
// all that was not led to them. A proxy that is gone refuses. Captured
// connections lose their translation with the last table of the namespace that
// has one: to end a Capture, Sync a State that still has its Except, let what
// runs end, and only then Sync the rest away.
//
//	capture-outbound: protocol -> port    captured-outbound: protocol
//	capture-inbound:  protocol -> port    captured-listed, captured-ports, captured-all, captured-closed
//	capture-dns:      protocol -> port    captured-dns: protocol
//	captured-ports:   family . port
//	spared-*: users, groups, marks, ports, networks       proxy-ports: protocol . port
//
// # Ownership and needs
//
// Where the kernel can (6.9), the table belongs to the Client's socket and
// outlives it; see Config.Shared. A new Client reads the table and writes
// only what differs. A table of the same name that no Client made is left
// alone (ErrForeign).
//
// The zero State is no table; the zero Config works in the caller's network
// namespace. Out of scope: filtering, routing, and IPv4-mapped or scoped
// addresses. Forwarding (net.ipv4.ip_forward, net.ipv6.conf.all.forwarding)
// is for the caller to turn on, and for connections between pods of one
// bridge net.bridge.bridge-nf-call-iptables, or their answers pass the host
// by; a pod that reaches itself then also needs hairpin mode on its port.
//
// It needs CAP_NET_ADMIN in the user namespace of the network namespace,
// CAP_SYS_ADMIN too to enter one that the caller is not in, and Linux 5.10 with nf_tables, nf_nat, nft_numgen, nft_hash, nft_fib_inet,
// nft_reject_inet, nft_masq, nft_nat, nft_redir and nf_conntrack_netlink. A process without
// CAP_NET_ADMIN in the first user namespace has a small send buffer
// (net.core.wmem_max). What does not fit a send buffer, a change of more than
// 128k elements, and the first filling of an owned table, are written in
// several transactions, each of whole forwards: the kernel's time for one
// transaction grows faster than its size.
//
// # Older kernels
//
// The tests of this package run on Linux 6.1 too. Before 6.9 a table has no owner: everybody with CAP_NET_ADMIN can change it, which
// Client.Watch notices and the next Sync repairs. Before 6.11 the kernel cannot delete the connections of one forward by itself, nor by an
// IPv6 address up to 6.18 at least: then the whole of conntrack is listed, which takes time in proportion to it. Before 6.16 a list of elements can be wrong while
// their table grows: what seems damaged is read again.
package nat
