// Package veth keeps bridges and veth pairs in the state that you declare: the links, and on them the addresses, routes, sysctls,
// neighbour proxies, bridge-port settings and VLANs that connect pods to their node.
//
// A [State] lists bridges and pairs. [Diff] compares two states into a [Plan]; a [Client] reads the kernel's state, plans and
// applies. A container plugin needs no more than three calls: ADD is Sync(want), CHECK is Plan(want) followed by Plan.Empty, DEL is
// Sync(State{}), which also works when the pod's namespace is gone. [Client.Attach] and [Client.Detach] move one pair without
// reading the rest of the node, and [Client.DetachGroup] removes a whole IFLA_GROUP in one request.
//
// # What it owns
//
// Links whose interface alias (ip link: "alias") begins with [Config].Owner, and on them: addresses, routes of protocol
// [RouteProtocol], neighbour proxies, the sysctls named in the state, and VLAN entries. The alias also holds what the kernel has no
// place for: the path of the pod's namespace and the names of the sysctls set, so that a new process reads back what an old one
// made. Links with another alias are never changed: when a wanted name is theirs the error is a [ForeignError]. Foreign ports of an
// owned bridge stay, and a bridge that has some is not removed ([BusyError]).
//
// With [Config].Attachment set, the client owns the pairs of that one attachment only. Bridges then belong to the owner, are shared
// by its attachments, made by the first that wants them, repaired by each, and removed by none.
//
// A process that is killed in the moment between making a pair and marking it leaves a link without owner; it goes with the pod's
// namespace.
//
// # Zero values
//
// The zero State is "nothing". Every field says what its zero means; [State.Canonical] writes those defaults out, and that is the form
// in which Read returns a state. Duplicate address detection is off unless asked for, so that IPv6 addresses work at once.
//
// # Out of scope
//
// Address allocation, node-wide switches such as net.ipv4.ip_forward, firewall rules, policy routing tables other than main, and
// the loopback link of a pod.
//
// # Needs
//
// CAP_NET_ADMIN in the node's namespace and in the pods', and CAP_SYS_ADMIN to enter those; CAP_NET_RAW to announce addresses. Linux
// with veth and bridge; VLAN filtering needs CONFIG_BRIDGE_VLAN_FILTERING. Address ownership (IFA_PROTO) needs Linux 5.18; on older
// kernels an address that is no longer wanted stays on a pod's link. The tests run on Linux 6.1 too, which lacks nothing. State, Validate, Diff and Plan work on every system.
package veth
