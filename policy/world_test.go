package policy_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"

	"github.com/podplumb/podplumb/policy"
)

// dice throws worlds: States that are small enough to ask for everything in them, and nasty enough to hold all that the API allows.
type dice struct {
	*rand.Rand
	faulty bool // also what no API server would let pass
}

func newDice(seed uint64, faulty bool) dice {
	return dice{rand.New(rand.NewPCG(seed, 0x706f6c696379)), faulty}
}

// oneIn is true in one of n cases.
func (d dice) oneIn(n int) bool { return d.IntN(n) == 0 }

func pick[T any](d dice, from []T) T { return from[d.IntN(len(from))] }

// some makes up to most things.
func some[T any](d dice, most int, one func() T) []T {
	var out []T
	for range d.IntN(most + 1) {
		out = append(out, one())
	}
	return out
}

// The things that a world is made of.
var (
	worldProtocols = []policy.Protocol{policy.TCP, policy.UDP, policy.SCTP, "ICMP"}
	worldPorts     = []uint16{0, 53, 80, 81, 65535}
	worldOutside   = []netip.Addr{
		netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.129"), netip.MustParseAddr("10.99.0.1"),
		netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8:0:1::1"),
	}
	// spellings of CIDRs, and what they mean
	worldBlocks = map[string]string{
		"0.0.0.0/0": "0.0.0.0/0", "::/0": "::/0", "10.0.0.0/8": "10.0.0.0/8", "10.244.0.0/16": "10.244.0.0/16", "10.244.1.0/24": "10.244.1.0/24",
		"10.244.1.77/24": "10.244.1.0/24", "10.244.1.1/32": "10.244.1.1/32", "192.0.2.0/24": "192.0.2.0/24", "192.0.2.128/25": "192.0.2.128/25",
		"010.0244.001.00/024": "10.244.1.0/24", "::ffff:10.244.0.0/112": "10.244.0.0/16", "::ffff:10.0.0.0/104": "10.0.0.0/8", "::ffff:0:0/95": "::fffe:0:0/95", "10.0.0.1/32": "10.0.0.1/32",
		"fd00::/8": "fd00::/8", "fd00:244::/32": "fd00:244::/32", "fd00:244:1::/48": "fd00:244:1::/48", "fd00:244:1::1/128": "fd00:244:1::1/128",
		"fd44::/16": "fd44::/16", "fd44:0:0:1::/64": "fd44:0:0:1::/64", "fd44::10/126": "fd44::10/126", "10.244.0.10/31": "10.244.0.10/31", "192.168.50.0/24": "192.168.50.0/24",
		"2001:db8::/32": "2001:db8::/32", "2001:0DB8:0:1::9/64": "2001:db8:0:1::/64", "fd00:0000::01/128": "fd00::1/128",
		"10.244.0.0/24": "10.244.0.0/24", "10.244.1.0/25": "10.244.1.0/25", "10.244.0.0/25": "10.244.0.0/25", "fd00:244:1::/64": "fd00:244:1::/64", "fd00:244::/48": "fd00:244::/48", "fd00:244::/64": "fd00:244::/64",
	}
	worldSpellings = sortedKeys(worldBlocks)
)

func (d dice) labels() map[string]string {
	labels := map[string]string{}
	for _, k := range []string{"a", "b"} {
		if d.oneIn(2) {
			labels[k] = pick(d, []string{"", "x", "y"})
		}
	}
	return labels
}

func (d dice) selector() policy.Selector {
	var s policy.Selector
	if d.oneIn(3) {
		s.MatchLabels = d.labels()
	}
	if d.oneIn(6) {
		s.MatchLabels = map[string]string{policy.LabelName: pick(d, worldNamespaces)}
	}
	s.MatchExpressions = some(d, 2, func() policy.Requirement {
		r := policy.Requirement{Key: pick(d, []string{"a", "b", "c"}), Operator: pick(d, []policy.Operator{policy.In, policy.NotIn, policy.Exists, policy.DoesNotExist})}
		if r.Operator == policy.In || r.Operator == policy.NotIn {
			r.Values = append(some(d, 1, func() string { return pick(d, []string{"", "x", "y"}) }), pick(d, []string{"", "x", "y", "z"}))
		}
		if d.faulty && d.oneIn(30) {
			r.Operator = pick(d, []policy.Operator{policy.In, policy.Exists, "Gt", ""})
			r.Values = pick(d, [][]string{nil, {"x"}})
		}
		return r
	})
	if d.oneIn(2) {
		return policy.Selector{}
	}
	return s
}

func (d dice) maybeSelector(n int) *policy.Selector {
	if d.oneIn(n) {
		return nil
	}
	s := d.selector()
	return &s
}

var worldNamespaces = []string{"n0", "n1"}

// state makes a world of so many pods, policies and cluster policies at most.
func (d dice) state(pods, policies, cluster int) policy.State {
	var s policy.State
	for _, name := range worldNamespaces {
		if !d.oneIn(8) { // one that is not there has only its name
			s.Namespaces = append(s.Namespaces, policy.Namespace{Meta: policy.Meta{Name: name, Labels: d.labels()}})
		}
	}
	for i := range 2 {
		n := policy.Node{Meta: policy.Meta{Name: fmt.Sprintf("node%d", i), Labels: d.labels()}}
		for _, a := range []string{fmt.Sprintf("10.0.0.%d", i+1), fmt.Sprintf("fd00::%d", i+1), "a-host-name"} {
			n.Status.Addresses = append(n.Status.Addresses, policy.NodeAddress{Type: "InternalIP", Address: a})
		}
		s.Nodes = append(s.Nodes, n)
	}
	for i := range pods {
		s.Pods = append(s.Pods, d.pod(i))
	}
	for i := range d.IntN(policies + 1) {
		s.Policies = append(s.Policies, d.networkPolicy(fmt.Sprintf("p%d", i)))
	}
	for i := range d.IntN(cluster + 1) {
		s.ClusterPolicies = append(s.ClusterPolicies, d.clusterPolicy(fmt.Sprintf("c%d", i)))
	}
	s.Domains = map[string][]netip.Addr{"a.example.com": {worldOutside[0], worldOutside[3]}, "example.com": {worldOutside[1]}, "notexample.com": {worldOutside[2]}}
	d.Shuffle(len(s.Policies), func(i, j int) { s.Policies[i], s.Policies[j] = s.Policies[j], s.Policies[i] })
	d.Shuffle(len(s.ClusterPolicies), func(i, j int) {
		s.ClusterPolicies[i], s.ClusterPolicies[j] = s.ClusterPolicies[j], s.ClusterPolicies[i]
	})
	return s
}

func (d dice) pod(i int) policy.Pod {
	node := d.IntN(2)
	p := policy.Pod{Meta: policy.Meta{Namespace: pick(d, worldNamespaces), Name: fmt.Sprintf("pod%d", i), Labels: d.labels()}}
	last := i + 1
	if d.oneIn(6) && i > 0 {
		last = i // the address that the pod before may have
	}
	four, six := fmt.Sprintf("10.244.%d.%d", node, last), fmt.Sprintf("fd00:244:%d::%d", node, last)
	switch d.IntN(4) {
	case 0:
		p.Status.PodIP = four
	case 1:
		p.Status.PodIP, p.Status.PodIPs = six, []policy.PodIP{{IP: six}}
	default:
		p.Status.PodIP, p.Status.PodIPs = four, []policy.PodIP{{IP: four}, {IP: six}}
	}
	p.Spec.NodeName = fmt.Sprintf("node%d", node)
	switch {
	case d.oneIn(10):
		p.Spec.HostNetwork = true
		p.Status.PodIPs = []policy.PodIP{{IP: fmt.Sprintf("10.0.0.%d", node+1)}}
	case d.oneIn(10):
		p.Status.Phase = pick(d, []string{"Succeeded", "Failed"})
	case d.oneIn(8):
		p.Spec.NodeName, p.Status.HostIP = "", fmt.Sprintf("10.0.0.%d", node+1)
		p.Status.HostIPs = some(d, 1, func() policy.HostIP { return policy.HostIP{IP: fmt.Sprintf("fd00::%d", node+1)} })
	}
	p.Spec.Containers = some(d, 3, func() policy.Container { return policy.Container{Ports: d.containerPorts()} })
	p.Spec.InitContainers = some(d, 1, func() policy.Container {
		return policy.Container{RestartPolicy: pick(d, []string{"", "Always"}), Ports: d.containerPorts()}
	})
	return p
}

func (d dice) containerPorts() []policy.ContainerPort {
	return some(d, 3, func() policy.ContainerPort {
		return policy.ContainerPort{
			Name: pick(d, []string{"web", "web", "dns"}), ContainerPort: pick(d, worldPorts[1:]),
			Protocol: pick(d, []policy.Protocol{"", policy.TCP, policy.UDP, policy.SCTP}),
		}
	})
}
