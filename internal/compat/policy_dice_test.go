package compat_test

import (
	"math/rand/v2"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// verdictDice throws NetworkPolicies that are nearly good.
type verdictDice struct{ *rand.Rand }

func (d verdictDice) pick(good []string, bad ...string) string {
	if len(bad) > 0 && d.IntN(25) == 0 {
		return bad[d.IntN(len(bad))]
	}
	return good[d.IntN(len(good))]
}

func list[T any](d verdictDice, most int, item func() T) (out []T) {
	for range d.IntN(most + 1) {
		out = append(out, item())
	}
	return out
}

func (d verdictDice) labels() map[string]string {
	m := map[string]string{}
	for range d.IntN(3) {
		k := d.pick([]string{"app", "a.b/c_d", "X", strings.Repeat("a", 63)}, "", "-a", "a/b/c", "/a", "A.B/c", strings.Repeat("a", 64), "a b")
		m[k] = d.pick([]string{"", "x", "X.y-z_9"}, "-", "a b", strings.Repeat("v", 64), "ü")
	}
	return m
}

func (d verdictDice) selector() metav1.LabelSelector {
	return metav1.LabelSelector{MatchLabels: d.labels(), MatchExpressions: list(d, 2, func() metav1.LabelSelectorRequirement {
		r := metav1.LabelSelectorRequirement{
			Key:      d.pick([]string{"app", "a.b/c"}, "", "-", "a//b"),
			Operator: metav1.LabelSelectorOperator(d.pick([]string{"In", "NotIn", "Exists", "DoesNotExist"}, "in", "", "Gt")),
		}
		if in := r.Operator == "In" || r.Operator == "NotIn"; in != (d.IntN(25) == 0) {
			r.Values = append(list(d, 1, func() string { return d.pick([]string{"", "x"}, "a b", "-") }), d.pick([]string{"", "y"}, "ü"))
		}
		return r
	})}
}

func (d verdictDice) cidr() string {
	text := d.pick([]string{
		"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/16", "0.0.0.0/0", "::/0", "fd00::/8", "fd00:1::/32", "::ffff:10.0.0.0/104", "::ffff:10.1.0.0/112", "::ffff:1.2.3.4/90", "10.1.0.0/32", "1:2:3:4:5:6:7::/128",
	}, "", "10.0.0.0", "10.0.0.0/33", "10.0.0/8", "fd00::/129", "x", "10.0.0.0/-1", "10.0.0.0/8/9", "fd00::%eth0/64", "fe80::1%1/64", "256.0.0.0/8", "10.0.0.0/ 8", "10.0.0.0/+8", "1:2:3:4:5:6:7:8::/64", ":::/0", "::ffff:256.0.0.0/104")
	if d.IntN(6) > 0 {
		return text
	}
	// numbers with zeros in front, somewhere
	at := d.IntN(len(text) + 1)
	return text[:at] + strings.Repeat("0", 1+d.IntN(3)) + text[at:]
}

func (d verdictDice) peer() (p networkingv1.NetworkPolicyPeer) {
	kinds := d.IntN(5)
	if kinds == 0 || kinds == 1 {
		p.IPBlock = &networkingv1.IPBlock{CIDR: d.cidr(), Except: list(d, 2, d.cidr)}
		if d.IntN(4) > 0 {
			p.IPBlock.CIDR, p.IPBlock.Except = d.pick([]string{"10.0.0.0/8", "::ffff:10.0.0.0/104"}), list(d, 2, func() string {
				return d.pick([]string{"10.1.0.0/16", "10.2.2.2/32", "::ffff:10.3.0.0/112"}, "10.0.0.0/8", "11.0.0.0/16")
			})
		}
	}
	if kinds >= 2 && d.IntN(25) > 0 || d.IntN(25) == 0 {
		s := d.selector()
		p.PodSelector = &s
	}
	if kinds == 4 || d.IntN(25) == 0 {
		s := d.selector()
		p.NamespaceSelector = &s
	}
	return p
}

func (d verdictDice) port() (p networkingv1.NetworkPolicyPort) {
	if d.IntN(2) == 0 {
		proto := corev1.Protocol(d.pick([]string{"TCP", "UDP", "SCTP"}, "", "tcp", "ICMP"))
		p.Protocol = &proto
	}
	switch d.IntN(4) {
	case 0:
		at := intstr.FromString(d.pick([]string{"http", "a-1", "x"}, "_", "-", "a--b", "1", "HTTP", strings.Repeat("a", 16), "a.b"))
		p.Port = &at
	case 1, 2:
		at := intstr.FromInt32([]int32{1, 80, 65535, 80, 80, 80, 80, 0, -1, 65536}[d.IntN(10)])
		p.Port = &at
	}
	if p.Port != nil && p.Port.Type == intstr.Int && d.IntN(2) == 0 || d.IntN(25) == 0 {
		end := []int32{65535, 65535, 90, 80, 65536, 1}[d.IntN(6)]
		p.EndPort = &end
	}
	return p
}

func (d verdictDice) networkPolicy() networkingv1.NetworkPolicy {
	p := networkingv1.NetworkPolicy{}
	p.Name = d.pick([]string{"a", "a-b.c", "1a"}, "", "A", "-a", "a_b", "a..b", strings.Repeat("a", 254))
	p.Namespace = d.pick([]string{"default", "a1"}, "", "a.b", "A", strings.Repeat("a", 64))
	p.Labels = d.labels()
	if d.IntN(5) == 0 {
		p.Annotations = map[string]string{d.pick([]string{"a/b", "A/B", "x"}, "", "a b", "a/b/c"): "any thing"}
		p.GenerateName = d.pick([]string{"a-", "abc", "a.-"}, "-", "A-", "a_-", strings.Repeat("a", 260))
	}
	if d.IntN(10) == 0 {
		yes := true
		p.Generation = int64(d.IntN(10)) - 1
		p.Finalizers = list(d, 2, func() string { return d.pick([]string{"a/b", "orphan", "foregroundDeletion", "x"}, "", "a/b/c") })
		p.OwnerReferences = list(d, 2, func() metav1.OwnerReference {
			return metav1.OwnerReference{
				APIVersion: d.pick([]string{"v1", "apps/v1"}, "", "a/"), Kind: d.pick([]string{"Pod", "Deployment"}, "", "Event"),
				Name: d.pick([]string{"x"}, ""), UID: "u", Controller: []*bool{nil, &yes}[d.IntN(2)],
			}
		})
	}
	p.Spec.PodSelector = d.selector()
	p.Spec.PolicyTypes = list(d, 2, func() networkingv1.PolicyType {
		return networkingv1.PolicyType(d.pick([]string{"Ingress", "Egress"}, "", "ingress"))
	})
	if d.IntN(25) == 0 {
		p.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress", "Ingress"}
	}
	p.Spec.Ingress = list(d, 2, func() networkingv1.NetworkPolicyIngressRule {
		return networkingv1.NetworkPolicyIngressRule{From: list(d, 2, d.peer), Ports: list(d, 2, d.port)}
	})
	p.Spec.Egress = list(d, 1, func() networkingv1.NetworkPolicyEgressRule {
		return networkingv1.NetworkPolicyEgressRule{To: list(d, 2, d.peer), Ports: list(d, 2, d.port)}
	})
	return p
}
