package manifest

import (
	"encoding/json"
	"errors"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/podplumb/podplumb/policy"
)

func checkNetworkPolicy(p *networkingv1.NetworkPolicy, c *checker) {
	var own policy.NetworkPolicy
	c.convert(p, &own)
	c.policy(policy.State{Policies: []policy.NetworkPolicy{own}})
}

func checkClusterNetworkPolicy(p *policyv1alpha2.ClusterNetworkPolicy, c *checker) {
	c.clusterScoped(p)
	var own policy.ClusterNetworkPolicy
	c.convert(p, &own)
	c.policy(policy.State{ClusterPolicies: []policy.ClusterNetworkPolicy{own}})
}

// convert goes by the JSON, which is the same.
func (c *checker) convert(from, to any) {
	text, err := json.Marshal(from)
	if err == nil {
		err = json.Unmarshal(text, to)
	}
	if err != nil {
		c.add("", "%w", err)
	}
}

// policy adds what the policy package finds wrong with the only policy of a State. Metadata has been checked.
func (c *checker) policy(s policy.State) {
	err := s.Validate()
	if err == nil {
		return
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		c.add("", "%w", err)
		return
	}
	for _, fault := range joined.Unwrap() {
		var field *policy.FieldError
		if !errors.As(fault, &field) {
			c.add("", "%w", fault)
			continue
		}
		_, path, _ := strings.Cut(field.Path, "].") // policies[NAMESPACE/NAME].
		if !strings.HasPrefix(path, "metadata.") {
			c.add(path, "%w", field.Err)
		}
	}
}
