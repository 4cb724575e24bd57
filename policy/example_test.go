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
