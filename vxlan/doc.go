// Package vxlan keeps VXLAN overlay devices and the peers behind them as declared: RFC 7348 tunnels whose remote ends are written into the
// kernel instead of being learned.
//
// # What it owns
//
// A Client owns, in one network namespace, the vxlan links whose alias is Config.Alias, and through them:
//
//   - the permanent forwarding entries (FDB) and the permanent neighbours on those links, unless another routing protocol marked them;
//   - the addresses on those links, unless another protocol marked them, and without the kernel's own link-local ones;
//   - the routes of the main table that carry Config.Protocol, on those links or on any other (direct routing).
//
// All of that is brought to the wanted State, so entries of an earlier life go away. Everything else is left alone. What stands on an owned
// link and is not the client's is told by Plan.Foreign; what stands where a wanted object belongs (a foreign link of the same name, a foreign
// device with the same VNI and port, another protocol's route to the same subnet) is a *ConflictError, and nothing is changed.
//
// Two clients in one namespace need different aliases and different protocols. To hand a device over to somebody else, give it another alias.
//
// # One peer
//
// A peer costs one FDB entry (its MAC to its underlay address), one permanent neighbour for each of its tunnel addresses, and one onlink route
// for each of its subnets, so no ARP, no neighbour discovery and no flooding crosses the underlay. With DirectRouting the routes of a peer in
// the node's own underlay subnet go to the peer itself, around the tunnel; the FDB entry and the neighbours stay, so leaving direct routing
// is one route change. With Flood the peer receives a copy of each broadcast, unknown and multicast frame (head-end replication), which makes
// the device a port for a bridge (Bridge).
//
// # Changes, and keeping them
//
// Sync reads everything once and writes what differs, in batches, additions before removals, so that traffic never meets half a peer. SetPeers and
// DropPeers read nothing: their cost is that of the peers given. Settings that the kernel refuses to change are told as "recreate" by the Plan;
// where it allows two devices at a time, the new one is filled beside the old one and takes its name at the end. Watch keeps a State as it is: it
// follows netlink events, compares each with what it left, and repairs at the first that disagrees.
//
// # Zero values
//
// The zero State is no device. The zero Config is the calling thread's namespace, alias "podplumb:vxlan" and route protocol 113. Zero fields
// of a Device mean what their comments say; Client.Resolve shows a State with all of them filled in.
//
// # Out of scope
//
// Multicast groups, VLAN-to-VNI mapping and collect-metadata devices, and forwarding itself: net.ipv4.ip_forward and net.ipv6.conf.all.forwarding
// belong to whoever owns the node. Direct routing needs a next hop of the subnet's own family.
//
// # Needs
//
// CAP_NET_ADMIN in the user namespace that owns the network namespace, CAP_SYS_ADMIN too to enter one that the caller is not in, and a kernel with CONFIG_VXLAN (modprobe vxlan); Linux 5.0 or newer. The tests run on 6.1
// too, which lacks nothing; before 5.18 addresses carry no protocol, and the addresses of others on the links are taken for the package's own.
// Other systems can build, compare and print states; New fails there with errors.ErrUnsupported.
package vxlan
