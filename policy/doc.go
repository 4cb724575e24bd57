// Package policy says what Kubernetes' network policies allow, and enforces it: NetworkPolicy (networking.k8s.io/v1) and the Admin and
// Baseline tiers of ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).
//
// [Evaluate] answers for one connection in one [State], with the policy, rule and peer that decided. It is pure: it needs neither root
// nor Linux nor a cluster, and it takes objects as users write them, without the API server's defaults. [State.Validate] names every
// fault of the objects, each with the path of its field.
//
// [Flows] tells what a change of policies opens and closes, with the reasons before and after, and [Analyze] what in policies has no
// effect: rules that others shadow, selectors that find nobody, ports that nobody has.
//
// [Compile] makes the same State an nftables [Ruleset], without asking Evaluate; the tests hold the two, and the kernel, to each other.
// A [Client] keeps a network namespace at that Ruleset: whole with Sync, or change by change with Update, at a cost that depends on what
// the change touches and not on what else there is. The zero State is no table; the zero [Config] enforces the policies of all pods of
// the State in the caller's network namespace.
//
// # What a Client owns
//
// One nftables table of family inet, whole (Config.Table, by default "podplumb-policy"), and the conntrack entries of connections between
// pods that it denies. It touches no other table. Where the kernel can (6.9) the table belongs to the Client's socket and outlives it: what
// was in force stays in force, and the next Client reads it and writes only what differs.
//
//	forward, output, input     known connections pass; what the host sends itself passes
//	judge                      addresses of Config.Local that no pod has are cut off; both ends are asked
//	egress4, ingress4, ...     address -> number -> chain of all that is asked of that pod in that direction
//	peers4-..., ports4-...     addresses that selectors find, ports that pods give a name
//	self4, own4, known4        pods to themselves, pods and their nodes, addresses that pods have
//	blocks4-24, ...            policy . network . port, for each length of prefix
//	selectors4-17, members4    policy . port -> number of the peers, in 64 maps; number . address
//	block-counts4, ...         policy . network . port and policy . port: what rules count, made by the first packet that they allow
//
// Of a NetworkPolicy's rules that allow networks, or three or more selectors, single ports, a packet is asked for all at once: they are
// elements and not rules, which costs the kernel a tenth. Selectors are numbered for that by the bits of Config.Mark, of which it needs 16.
// A set of counters holds 65,535; what more rules than that allow passes uncounted.
//
// Pods of whom the same is asked share a chain, and policies that select the same share a set; the names of both are made from what is in
// them. So a Ruleset depends on the State alone: however it was reached, its text is the same. What changes often are elements of hash
// sets and of maps from addresses to numbers, which cost the kernel a few microseconds, and a look at every chain of the namespace. A
// combination of policies that no pod of the node had before is a new chain, for which the kernel looks at all profiles of the node once.
// nft lists the table but cannot load what it lists: version 1.0.6 has no words for a shifted mark and for the constant in keys of elements.
//
// Destinations are judged after translation and sources before: services, NodePorts and masquerade of any make in front are seen through,
// as are the packets of IPVS, which are never forwarded but received and sent. Source addresses are believed: that a pod has no other than
// its own is for whoever connects it.
//
// Packets between pods on one bridge pass these hooks only with br_netfilter and net.bridge.bridge-nf-call-iptables and -ip6tables at 1,
// or the same options of the bridge. They are required, as they are for services between such pods, whose answers would miss the
// translation; a second table of the bridge family would need every set twice, cannot refuse with an answer, and tracks connections by
// itself. Where a pod of the node is behind a bridge without them, Sync, Apply, Update, Admit and Watch say so with [ErrBridged], each
// time, unless Config.AllowBridged is set. A pod is behind the bridge that the most specific route to it leaves by.
//
// A connection is judged by its first packet; its answers and what is related to it, such as ICMP errors, pass. One that a change denies
// is deleted from conntrack (see Config.KeepLive). Neighbour discovery and multicast listening, which IPv6 needs as IPv4 needs ARP, always
// pass. Packets without connection tracking (notrack) are judged one by one in both directions.
//
// It needs CAP_NET_ADMIN in the user namespace of the network namespace, CAP_SYS_ADMIN too to enter one that the caller is not in, and
// Linux 5.10 with nf_tables, nft_ct, nft_fib_inet, nft_limit, nft_objref, nft_log, nft_reject_inet and nf_conntrack_netlink, and
// nfnetlink_log for Denials. Out of scope: encryption, layer 7, rate limits, and resolving domain names (State.Domains takes them).
//
// Older kernels: the tests of this package run on Linux 6.1 too. Before 6.9 the table has no owner and everybody with CAP_NET_ADMIN can
// change it, which Client.Watch notices and repairs. Nothing else differs.
//
// # What the API text leaves open
//
//   - A pod always reaches itself, and its own node always reaches it, whatever any tier says; the kubelet's probes must work. A pod
//     reaches its own node in spite of NetworkPolicies, as their documentation says, but not in spite of a ClusterNetworkPolicy. The kernel
//     takes every address of the machine for the node's own, not only those that the Node lists.
//   - Pods with hostNetwork are their node: no policy selects them, and no pod or namespace selector finds them as a peer.
//   - Finished pods (Succeeded, Failed) have no address. Two live pods with the same address must both allow a packet, and a selector
//     finds them as a peer only if it selects both; where a rule denies, if it selects one of them.
//   - A named port is a port of the destination pod, looked up for each pod by name and protocol among its containers and sidecars
//     (init containers with restartPolicy Always). A name that the pod does not have matches nothing.
//   - A rule without ports is for every protocol, a rule with ports for those protocols only; an isolated pod is isolated for every
//     protocol.
//   - policyTypes that are empty are as good as none. A selector that cannot be read (NotIn without values, an unknown operator) selects
//     nothing. IPBlocks are read as the API server does, which takes leading zeros and IPv4 inside IPv6.
//   - What a ClusterNetworkPolicy's rule cannot be known to mean (a peer or protocol with no field, or more than one; a port without
//     number and range; a selector or network that cannot be read; domain names in a rule that does not accept) makes the whole rule
//     fail closed: Accept matches nothing, Deny and Pass deny everything. A subject that cannot be read is nobody's. Compile and Sync
//     refuse such objects with the other faults, but for those that look as if a later version of the API had one more field
//     ([ErrUnknown]).
//   - ClusterNetworkPolicies of equal tier and priority are asked in the order of their names.
//   - Policies are for connections, not packets: the text does not say what becomes of a connection that a new policy denies. Here it is
//     cut, unless Config.KeepLive is set.
//   - The text does not say how a packet is refused: it is dropped in silence, or with Config.Reject answered.
//   - A rule that names no port is for ICMP too, one that does is not: an isolated pod gets no echo requests by it. ICMP errors about allowed
//     connections always pass.
//   - Multicast and broadcast, of which the text says nothing, are judged at the sender only: their destination is no pod's address. What
//     is not IP is not judged.
//   - Where several rules of NetworkPolicies allow a connection, one of them counts it, not always the first.
//   - A pod that is not known yet is closed if its address is in Config.Local; the text wants policies in force before a pod starts, and
//     leaves the how to implementations. See Client.Admit.
package policy
