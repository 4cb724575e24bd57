package layout

import (
	"errors"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/podplumb/podplumb/examples/internal/manifest"
)

// Ranges that addresses are assigned from, one of each family. Manifests may name addresses outside of them.
var (
	NodeRanges    = prefixes("10.0.0.0/24", "fd00:10::/64")
	PodRanges     = prefixes("10.244.0.0/16", "fd00:10:244::/48") // a node gets a /24 and a /64
	ServiceRanges = prefixes("10.96.0.0/16", "fd00:10:96::/112")
	// BalancerRanges hold the addresses of load balancers; both are reserved for documentation (RFC 5737, RFC 3849).
	BalancerRanges = prefixes("203.0.113.0/24", "2001:db8:113::/112")
)

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// Cluster is a set of manifests with every open question answered.
type Cluster struct {
	Nodes    []Node
	Pods     []Pod            // in the order of the manifests, Deployments after Pods
	Services []corev1.Service // those with cluster IPs, all of them assigned in Spec.ClusterIPs
	Names    []corev1.Service // those that are names alone: headless ones and ExternalNames

	Underlay      []Network      // the network that joins the nodes, one entry a family
	PodRanges     []netip.Prefix // everything that pods have addresses in
	ServiceRanges []netip.Prefix // everything that Services have addresses in
	Entries       []Entry        // the addresses by which the world outside reaches Services

	Namespaces             []corev1.Namespace
	NetworkPolicies        []networkingv1.NetworkPolicy
	ClusterNetworkPolicies []policyv1alpha2.ClusterNetworkPolicy

	Warnings []string
}

// Entry is an address of a Service that is no cluster IP, and the node that the router outside leads it to.
type Entry struct {
	Addr netip.Addr
	Node string
}

// Network is an address range and the router in it.
type Network struct {
	Range  netip.Prefix
	Router netip.Addr
}

// Node is a machine of the cluster.
type Node struct {
	Object  corev1.Node
	Addrs   []netip.Addr // on the underlay: IPv4, IPv6
	PodNets []Network    // ranges of its pods and the gateway in each: IPv4, IPv6
}

// Name is the node's name.
func (n Node) Name() string { return n.Object.Name }

// Pod is a pod with its place. Object carries the place too, as the API server shows a running pod: spec.nodeName,
// status.podIPs and the condition Ready.
type Pod struct {
	Object corev1.Pod
	Node   string
	Addrs  []netip.Addr // IPv4, IPv6
}

// Name is the pod's namespace and name. In the namespace "default" it is the name alone.
func (p Pod) Name() string {
	if p.Object.Namespace == "default" {
		return p.Object.Name
	}
	return p.Object.Namespace + "/" + p.Object.Name
}

// Arrange answers every open question. The error joins every fault, each with the place in the manifests. nodes is the
// number of nodes to make up when the manifests declare none.
func Arrange(set manifest.Set, nodes int) (Cluster, error) {
	a := arranger{set: &set, nodeNames: map[string]int{}}
	a.cluster.Warnings = set.Warnings
	a.cluster.Namespaces, a.cluster.NetworkPolicies, a.cluster.ClusterNetworkPolicies = set.Namespaces, set.NetworkPolicies, set.ClusterNetworkPolicies
	a.arrangeNodes(nodes)
	a.arrangePods()
	a.arrangeServices()
	a.arrangeExposure()
	if err := errors.Join(a.faults...); err != nil {
		return Cluster{}, err
	}
	return a.cluster, nil
}

type arranger struct {
	set       *manifest.Set
	cluster   Cluster
	faults    []error
	nodeNames map[string]int // index in cluster.Nodes
}

func (a *arranger) fault(err error) { a.faults = append(a.faults, err) }

// is6 is the index of an address's family in lists that have one entry of each.
func is6(addr netip.Addr) int {
	if addr.Is4() {
		return 0
	}
	return 1
}
