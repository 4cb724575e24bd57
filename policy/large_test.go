package policy_test

import (
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/policy"
)

// large is a cluster of pods in namespaces of fifty, on nodes of a hundred, with so many policies: half of them let one app reach another
// on a port, the others let a namespace in, allow a network, or deny by default.
func large(pods, policies int) policy.State {
	var s policy.State
	tcp := policy.TCP
	spaces := max(1, pods/50)
	for i := range spaces {
		s.Namespaces = append(s.Namespaces, policy.Namespace{Meta: policy.Meta{Name: fmt.Sprintf("ns%d", i), Labels: map[string]string{"team": fmt.Sprintf("t%d", i%20)}}})
	}
	for i := range max(1, pods/100) {
		s.Nodes = append(s.Nodes, policy.Node{
			Meta:   policy.Meta{Name: fmt.Sprintf("node%d", i)},
			Status: policy.NodeStatus{Addresses: []policy.NodeAddress{{Type: "InternalIP", Address: netip.AddrFrom4([4]byte{192, 168, byte(i >> 8), byte(i)}).String()}}},
		})
	}
	for i := range pods {
		s.Pods = append(s.Pods, policy.Pod{
			Meta:   policy.Meta{Namespace: fmt.Sprintf("ns%d", i%spaces), Name: fmt.Sprintf("pod%d", i), Labels: map[string]string{"app": fmt.Sprintf("a%d", i/spaces%10), "env": []string{"prod", "test"}[i%2]}},
			Spec:   policy.PodSpec{NodeName: fmt.Sprintf("node%d", i/100), Containers: []policy.Container{{Ports: []policy.ContainerPort{{Name: "http", ContainerPort: 8080}}}}},
			Status: policy.PodStatus{PodIPs: []policy.PodIP{{IP: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()}, {IP: fmt.Sprintf("fd00::%x:%x", i>>16, i&0xffff)}}},
		})
	}
	for i := range policies {
		p := policy.NetworkPolicy{Meta: policy.Meta{Namespace: fmt.Sprintf("ns%d", i%spaces), Name: fmt.Sprintf("p%d", i)}}
		app := func(n int) *policy.Selector {
			return &policy.Selector{MatchLabels: map[string]string{"app": fmt.Sprintf("a%d", n%10)}}
		}
		port := policy.Port{Protocol: &tcp, Port: &policy.PortRef{Number: int32(1000 + i%100)}}
		switch kind := i / spaces; kind % 5 {
		case 0:
			p.Spec.PolicyTypes = []policy.Direction{policy.Ingress, policy.Egress}
		case 1:
			p.Spec.PodSelector = *app(kind)
			p.Spec.Ingress = []policy.IngressRule{{From: []policy.Peer{{NamespaceSelector: &policy.Selector{MatchLabels: map[string]string{"team": fmt.Sprintf("t%d", i%20)}}}}, Ports: []policy.Port{{Protocol: &tcp, Port: &policy.PortRef{Name: "http"}}}}}
		case 2:
			p.Spec.PodSelector = *app(kind)
			p.Spec.Egress = []policy.EgressRule{{To: []policy.Peer{{IPBlock: &policy.IPBlock{CIDR: "0.0.0.0/0", Except: []string{"10.0.0.0/8", "169.254.0.0/16"}}}}, Ports: []policy.Port{port}}}
		default:
			p.Spec.PodSelector = *app(kind)
			p.Spec.Ingress = []policy.IngressRule{{From: []policy.Peer{{PodSelector: app(kind + 1)}, {PodSelector: app(kind + 2)}}, Ports: []policy.Port{port}}}
		}
		s.Policies = append(s.Policies, p)
	}
	return s
}
