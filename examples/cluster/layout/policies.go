package layout

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/policy"
)

// Policies is the cluster as network policies see it.
func (c *Cluster) Policies() (policy.State, error) {
	var s policy.State
	for _, ns := range c.Namespaces {
		s.Namespaces = append(s.Namespaces, policy.Namespace{Meta: policy.Meta{Name: ns.Name, Labels: ns.Labels}})
	}
	for _, node := range c.Nodes {
		n := policy.Node{Meta: policy.Meta{Name: node.Name(), Labels: node.Object.Labels}}
		add := func(kind corev1.NodeAddressType, text string) {
			n.Status.Addresses = append(n.Status.Addresses, policy.NodeAddress{Type: string(kind), Address: text})
		}
		for _, a := range node.Object.Status.Addresses {
			add(a.Type, a.Address)
		}
		// What a node sends to its own pods comes from the gateway's address.
		for _, network := range node.PodNets {
			add(corev1.NodeInternalIP, network.Router.String())
		}
		s.Nodes = append(s.Nodes, n)
	}
	for _, p := range c.Pods {
		var pod policy.Pod
		if err := convert(p.Object, &pod); err != nil {
			return s, fmt.Errorf("pod %s: %w", p.Name(), err)
		}
		s.Pods = append(s.Pods, pod)
	}
	for i := range c.NetworkPolicies {
		var p policy.NetworkPolicy
		if err := convert(&c.NetworkPolicies[i], &p); err != nil {
			return s, fmt.Errorf("NetworkPolicy %s/%s: %w", c.NetworkPolicies[i].Namespace, c.NetworkPolicies[i].Name, err)
		}
		s.Policies = append(s.Policies, p)
	}
	for i := range c.ClusterNetworkPolicies {
		var p policy.ClusterNetworkPolicy
		if err := convert(&c.ClusterNetworkPolicies[i], &p); err != nil {
			return s, fmt.Errorf("ClusterNetworkPolicy %s: %w", c.ClusterNetworkPolicies[i].Name, err)
		}
		s.ClusterPolicies = append(s.ClusterPolicies, p)
	}
	return s, nil
}

// convert goes by the JSON, which is the same.
func convert(from, to any) error {
	text, err := json.Marshal(from)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, to)
}
