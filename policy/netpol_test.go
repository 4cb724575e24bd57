package policy_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

// netpolWorld is the one that Kubernetes' own end-to-end tests of network policies use: pods a, b and c in namespaces x, y and z, which
// have their name as label, ports 80 and 81 of every protocol, named "serve-80-tcp" and so on.
func netpolWorld() policy.State {
	var s policy.State
	s.Nodes = []policy.Node{{Meta: policy.Meta{Name: "node"}, Status: policy.NodeStatus{Addresses: []policy.NodeAddress{{Address: "10.0.0.1"}, {Address: "fd00::1"}}}}}
	for i, ns := range []string{"x", "y", "z"} {
		s.Namespaces = append(s.Namespaces, policy.Namespace{Meta: policy.Meta{Name: ns, Labels: map[string]string{"ns": ns}}})
		for j, pod := range []string{"a", "b", "c"} {
			p := policy.Pod{Meta: policy.Meta{Namespace: ns, Name: pod, Labels: map[string]string{"pod": pod}}, Spec: policy.PodSpec{NodeName: "node"}}
			p.Status.PodIPs = []policy.PodIP{{IP: fmt.Sprintf("10.244.0.%d", 10*(i+1)+j)}, {IP: fmt.Sprintf("fd00:244::%d", 10*(i+1)+j)}}
			var c policy.Container
			for _, proto := range worldProtocols[:3] {
				for _, port := range []uint16{80, 81} {
					c.Ports = append(c.Ports, policy.ContainerPort{Name: fmt.Sprintf("serve-%d-%s", port, strings.ToLower(string(proto))), ContainerPort: port, Protocol: proto})
				}
			}
			p.Spec.Containers = []policy.Container{c}
			s.Pods = append(s.Pods, p)
		}
	}
	return s
}

// flow is a connection between two pods of that world.
type flow struct {
	from, to string // namespace/pod
	port     uint16
	proto    policy.Protocol
}

func (f flow) of(ns string) bool   { return strings.HasPrefix(f.from, ns+"/") }
func (f flow) pod(p string) bool   { return strings.HasSuffix(f.from, "/"+p) }
func (f flow) into(ns string) bool { return strings.HasPrefix(f.to, ns+"/") }

// TestUpstream goes through the scenarios of those tests. Each says what is denied, or allowed to and from those that are isolated.
func TestUpstream(t *testing.T) {
	t.Parallel()
	np := func(namespace, name, spec string) string {
		return `{"metadata":{"namespace":"` + namespace + `","name":"` + name + `"},"spec":` + spec + `}`
	}
	ingress := func(selector, rules string) string {
		return np("x", "in", `{"podSelector":`+selector+`,"policyTypes":["Ingress"],"ingress":`+rules+`}`)
	}
	egress := func(selector, rules string) string {
		return np("x", "out", `{"podSelector":`+selector+`,"policyTypes":["Egress"],"egress":`+rules+`}`)
	}
	const all, a, b = `{}`, `{"matchLabels":{"pod":"a"}}`, `{"matchLabels":{"pod":"b"}}`
	tests := []struct {
		name     string
		policies []string
		denied   func(f flow) bool
	}{
		{"default deny ingress", []string{ingress(all, `[]`)}, func(f flow) bool { return f.into("x") }},
		{"default deny all", []string{np("x", "d", `{"podSelector":{},"policyTypes":["Ingress","Egress"]}`)}, func(f flow) bool { return f.into("x") || f.of("x") }},
		{"traffic from pods of the own namespace by pod selector", []string{ingress(all, `[{"from":[{"podSelector":{}}]}]`)}, func(f flow) bool { return f.into("x") && !f.of("x") }},
		{"traffic from every pod of every namespace", []string{ingress(a, `[{"from":[{"namespaceSelector":{}}]}]`)}, func(flow) bool { return false }},
		{"traffic from a namespace", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}]}]`)}, func(f flow) bool { return f.to == "x/a" && !f.of("y") }},
		{"pod selector with expressions", []string{ingress(a, `[{"from":[{"podSelector":{"matchExpressions":[{"key":"pod","operator":"In","values":["b"]}]}}]}]`)}, func(f flow) bool { return f.to == "x/a" && f.from != "x/b" }},
		{"namespace selector with expressions", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"ns","operator":"In","values":["y"]}]}}]}]`)}, func(f flow) bool { return f.to == "x/a" && !f.of("y") }},
		{"pod or namespace selector", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}},{"podSelector":{"matchLabels":{"pod":"b"}}}]}]`)}, func(f flow) bool { return f.to == "x/a" && !f.of("y") && f.from != "x/b" }},
		{"pod and namespace selector", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}},"podSelector":{"matchLabels":{"pod":"b"}}}]}]`)}, func(f flow) bool { return f.to == "x/a" && f.from != "y/b" }},
		{"pod and namespace selectors with expressions", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchExpressions":[{"key":"ns","operator":"NotIn","values":["x"]}]},"podSelector":{"matchExpressions":[{"key":"pod","operator":"In","values":["b","c"]}]}}]}]`)},
			func(f flow) bool { return f.to == "x/a" && (f.of("x") || f.pod("a")) }},
		{"several pod selectors", []string{ingress(a, `[{"from":[{"podSelector":{"matchLabels":{"pod":"b"}},"namespaceSelector":{}},{"podSelector":{"matchLabels":{"pod":"c"}},"namespaceSelector":{}}]}]`)}, func(f flow) bool { return f.to == "x/a" && f.pod("a") }},
		{"traffic from other namespaces only by the namespace's name", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"z"}}}]}]`)}, func(f flow) bool { return f.to == "x/a" && !f.of("z") }},
		{"one port", []string{ingress(a, `[{"ports":[{"port":81}]}]`)}, func(f flow) bool { return f.to == "x/a" && (f.port != 81 || f.proto != "TCP") }},
		{"one port for one namespace", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}],"ports":[{"port":81}]}]`)}, func(f flow) bool { return f.to == "x/a" && !(f.of("y") && f.port == 81 && f.proto == "TCP") }},
		{"stacked: two ports of two rules", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}],"ports":[{"port":80}]},{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}],"ports":[{"port":81}]}]`)},
			func(f flow) bool { return f.to == "x/a" && (!f.of("y") || f.proto != "TCP") }},
		{"overlapping policies", []string{ingress(a, `[{"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}],"ports":[{"port":81}]}]`),
			np("x", "in2", `{"podSelector":{},"ingress":[{"ports":[{"port":80}],"from":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}}]}]}`)},
			func(f flow) bool {
				return f.into("x") && !(f.of("y") && f.proto == "TCP" && (f.port == 80 || f.port == 81 && f.to == "x/a"))
			}},
		{"allow all", []string{np("x", "d", `{"podSelector":{}}`), ingress(all, `[{}]`)}, func(flow) bool { return false }},
		{"allow all, and one port", []string{ingress(all, `[{"ports":[{"port":81}]}]`), np("x", "all", `{"podSelector":{},"ingress":[{}]}`)}, func(flow) bool { return false }},
		{"named port", []string{ingress(a, `[{"ports":[{"port":"serve-81-tcp"}]}]`)}, func(f flow) bool { return f.to == "x/a" && (f.port != 81 || f.proto != "TCP") }},
		{"named port of another protocol", []string{ingress(a, `[{"ports":[{"port":"serve-81-udp"}]}]`)}, func(f flow) bool { return f.to == "x/a" }},
		{"named port on egress", []string{egress(a, `[{"ports":[{"port":"serve-80-tcp"}]}]`)}, func(f flow) bool { return f.from == "x/a" && (f.port != 80 || f.proto != "TCP") }},
		{"range of ports", []string{egress(a, `[{"ports":[{"port":80,"endPort":81,"protocol":"UDP"}]}]`)}, func(f flow) bool { return f.from == "x/a" && f.proto != "UDP" }},
		{"egress to a namespace and a pod", []string{egress(a, `[{"to":[{"namespaceSelector":{"matchLabels":{"ns":"y"}}},{"podSelector":{"matchLabels":{"pod":"c"}}}]}]`)}, func(f flow) bool { return f.from == "x/a" && !f.into("y") && f.to != "x/c" }},
		{"several egress policies", []string{egress(a, `[{"to":[{"podSelector":{"matchLabels":{"pod":"b"}}}]}]`), np("x", "out2", `{"podSelector":{},"policyTypes":["Egress"],"egress":[{"to":[{"namespaceSelector":{"matchLabels":{"ns":"z"}}}]}]}`)},
			func(f flow) bool { return f.of("x") && !f.into("z") && !(f.from == "x/a" && f.to == "x/b") }},
		{"egress of one end, ingress of the other", []string{egress(a, `[{"to":[{"podSelector":{"matchLabels":{"pod":"b"}}}]}]`), ingress(b, `[{"from":[{"podSelector":{"matchLabels":{"pod":"a"}}}]}]`)},
			func(f flow) bool { return f.from == "x/a" && f.to != "x/b" || f.to == "x/b" && f.from != "x/a" }},
		{"egress to a block", []string{egress(a, `[{"to":[{"ipBlock":{"cidr":"10.244.0.20/32"}},{"ipBlock":{"cidr":"fd00:244::20/128"}}]}]`)}, func(f flow) bool { return f.from == "x/a" && f.to != "y/a" }},
		{"an exception", []string{egress(a, `[{"to":[{"ipBlock":{"cidr":"10.244.0.0/24","except":["10.244.0.21/32"]}},{"ipBlock":{"cidr":"fd00:244::/64","except":["fd00:244::21/128"]}}]}]`)}, func(f flow) bool { return f.from == "x/a" && f.to == "y/b" }},
		{"an exception is overruled by another block", []string{egress(a, `[{"to":[{"ipBlock":{"cidr":"10.244.0.0/24","except":["10.244.0.21/32"]}},{"ipBlock":{"cidr":"fd00:244::/64","except":["fd00:244::21/128"]}}]},{"to":[{"ipBlock":{"cidr":"10.244.0.21/32"}},{"ipBlock":{"cidr":"fd00:244::21/128"}}]}]`)},
			func(flow) bool { return false }},
		{"ingress policies do not touch egress", []string{ingress(all, `[]`), np("y", "out", `{"podSelector":{},"policyTypes":["Egress"],"egress":[{}]}`)}, func(f flow) bool { return f.into("x") }},
		{"SCTP by policy", []string{ingress(a, `[{"ports":[{"protocol":"SCTP","port":80}]}]`)}, func(f flow) bool { return f.to == "x/a" && (f.proto != "SCTP" || f.port != 80) }},
		{"UDP by policy", []string{ingress(a, `[{"ports":[{"protocol":"UDP","port":81}]}]`)}, func(f flow) bool { return f.to == "x/a" && (f.proto != "UDP" || f.port != 81) }},
		{"a policy of no types and an egress rule", []string{np("x", "both", `{"podSelector":{"matchLabels":{"pod":"a"}},"egress":[{"to":[{"namespaceSelector":{"matchLabels":{"ns":"z"}}}]}]}`)},
			func(f flow) bool { return f.to == "x/a" || f.from == "x/a" && !f.into("z") }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := netpolWorld()
			for _, text := range tt.policies {
				var p policy.NetworkPolicy
				parse(t, &p, text)
				s.Policies = append(s.Policies, p)
			}
			require.NoError(t, s.Validate())
			e := policy.NewEvaluator(s)
			for i := range s.Pods {
				for j := range s.Pods {
					for family := range 2 {
						for _, proto := range worldProtocols[:3] {
							for _, port := range []uint16{80, 81} {
								from, to := &s.Pods[i], &s.Pods[j]
								f := flow{from.Meta.Key().String(), to.Meta.Key().String(), port, proto}
								v := e.Evaluate(policy.Packet{Protocol: proto, Src: netip.MustParseAddr(from.Status.PodIPs[family].IP), Dst: netip.MustParseAddr(to.Status.PodIPs[family].IP), Port: port})
								require.Equal(t, i == j || !tt.denied(f), v.Allowed, "%+v: %s", f, v)
							}
						}
					}
				}
			}
		})
	}
}
