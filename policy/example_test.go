package policy_test

import (
	"fmt"

	"github.com/podplumb/podplumb/policy"
)

func ExampleEvaluate() {
	s := policy.State{
		Pods: []policy.Pod{{
			Meta:   policy.Meta{Namespace: "db", Name: "pg", Labels: map[string]string{"app": "pg"}},
			Status: policy.PodStatus{PodIPs: []policy.PodIP{{IP: "10.244.1.7"}}},
		}},
		Policies: []policy.NetworkPolicy{
			{Meta: policy.Meta{Namespace: "db", Name: "default-deny"}},
			{Meta: policy.Meta{Namespace: "db", Name: "allow-sql"}, Spec: policy.NetworkPolicySpec{
				Ingress: []policy.IngressRule{{Ports: []policy.Port{{Port: &policy.PortRef{Number: 5432}}}}},
			}},
		},
	}
	for _, port := range []uint16{5432, 5433} {
		p := packet("10.9.9.9", "10.244.1.7", port)
		fmt.Println(policy.Evaluate(s, p))
	}
	// Output:
	// allowed: NetworkPolicy policy db/allow-sql, ingress[0], for db/pg
	// denied: db/pg is isolated for ingress by db/allow-sql, db/default-deny, no rule of db/allow-sql matches TCP port 5433
}

func ExampleFlows() {
	pod := func(name, addr string) policy.Pod {
		return policy.Pod{
			Meta:   policy.Meta{Namespace: "shop", Name: name, Labels: map[string]string{"app": name}},
			Status: policy.PodStatus{PodIPs: []policy.PodIP{{IP: addr}}},
		}
	}
	before := policy.State{Pods: []policy.Pod{pod("web", "10.244.1.5"), pod("db", "10.244.1.7")}}
	after := before
	after.Policies = []policy.NetworkPolicy{{
		Meta: policy.Meta{Namespace: "shop", Name: "db"},
		Spec: policy.NetworkPolicySpec{
			PodSelector: policy.Selector{MatchLabels: map[string]string{"app": "db"}},
			Ingress: []policy.IngressRule{{
				From:  []policy.Peer{{PodSelector: &policy.Selector{MatchLabels: map[string]string{"app": "web"}}}},
				Ports: []policy.Port{{Port: &policy.PortRef{Number: 5432}}},
			}},
		},
	}}
	flows, _ := policy.Flows(before, after)
	for _, f := range flows {
		fmt.Println(f)
	}
	// Output:
	// closed every protocol over IPv4  outside -> shop/db: was open for want of a policy, now isolated for ingress by shop/db
	// closed TCP 1-5431, TCP 5433-65535, UDP, SCTP, other over IPv4  shop/web -> shop/db: was open for want of a policy, now isolated for ingress by shop/db
}

func ExampleAnalyze() {
	s := policy.State{
		Pods: []policy.Pod{{
			Meta:   policy.Meta{Namespace: "shop", Name: "db", Labels: map[string]string{"app": "db"}},
			Status: policy.PodStatus{PodIPs: []policy.PodIP{{IP: "10.244.1.7"}}},
		}},
		Policies: []policy.NetworkPolicy{{
			Meta: policy.Meta{Namespace: "shop", Name: "db"},
			Spec: policy.NetworkPolicySpec{Ingress: []policy.IngressRule{{
				From: []policy.Peer{{PodSelector: &policy.Selector{MatchLabels: map[string]string{"app": "wbe"}}}},
			}}},
		}},
	}
	findings, _ := policy.Analyze(s)
	for _, f := range findings {
		fmt.Println(f)
	}
	// Output:
	// policies[shop/db].spec.ingress[0]: matches nothing: none of its peers is there
	// policies[shop/db].spec.ingress[0].from[0]: matches nothing: no pod of namespace "shop" has app=wbe
}
