// Package policy says what Kubernetes' network policies allow: NetworkPolicy (networking.k8s.io/v1) and the Admin and Baseline tiers
// of ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2).
//
// [Evaluate] answers for one connection in one [State], with the policy, rule and peer that decided. It is pure: it needs neither root
// nor Linux nor a cluster, and it takes objects as users write them, without the API server's defaults. [State.Validate] names every
// fault of the objects, each with the path of its field.
//
// It owns nothing in the kernel. Not in this package yet: enforcing the policies with nftables.
//
// What the API text leaves open is answered so:
//
//   - A pod always reaches itself, and its own node always reaches it, whatever any tier says; the kubelet's probes must work. A pod
//     reaches its own node in spite of NetworkPolicies, as their documentation says, but not in spite of a ClusterNetworkPolicy.
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
//     fail closed: Accept matches nothing, Deny and Pass deny everything. A subject that cannot be read is nobody's.
//   - ClusterNetworkPolicies of equal tier and priority are asked in the order of their names.
package policy
