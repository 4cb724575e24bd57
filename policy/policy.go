package policy

import "net/netip"

// State is all that decides which traffic is allowed. The zero State allows everything. The order of its slices is without meaning.
type State struct {
	Namespaces      []Namespace
	Nodes           []Node
	Pods            []Pod
	Policies        []NetworkPolicy
	ClusterPolicies []ClusterNetworkPolicy

	// Domains holds the addresses of domain names as a resolver told them, for DomainNames peers; keys are in lower case without
	// a final dot. A name that is missing resolves to nothing, and a rule that needs it matches nothing.
	Domains map[string][]netip.Addr
}

// Namespace carries the labels that namespace selectors look at, with the JSON of the v1 Namespace. The API server labels every
// namespace with its name (LabelName); a namespace read from a file gets that label here too.
type Namespace struct {
	Meta Meta `json:"metadata"`
}

// LabelName is the label that holds every namespace's own name.
const LabelName = "kubernetes.io/metadata.name"

// Node is a machine of the cluster. What a node sends to its own pods, such as the kubelet's probes, is always allowed.
type Node struct {
	Meta   Meta       `json:"metadata"`
	Status NodeStatus `json:"status"`
}

// NodeStatus holds the addresses of a node.
type NodeStatus struct {
	Addresses []NodeAddress `json:"addresses,omitempty"`
}

// NodeAddress is one address of a node; entries that are no IP address, such as host names, are passed over.
type NodeAddress struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// Pod is what the policies need to know of a pod, with the JSON of the v1 Pod.
type Pod struct {
	Meta   Meta      `json:"metadata"`
	Spec   PodSpec   `json:"spec"`
	Status PodStatus `json:"status"`
}

// PodSpec holds the ports that names resolve to, and where the pod runs.
type PodSpec struct {
	NodeName       string      `json:"nodeName,omitempty"`
	HostNetwork    bool        `json:"hostNetwork,omitempty"` // the pod has the node's addresses: policies see the node, never the pod
	Containers     []Container `json:"containers,omitempty"`
	InitContainers []Container `json:"initContainers,omitempty"` // those with restartPolicy Always are sidecars; their ports count
}

// Container lists ports of a container.
type Container struct {
	Name          string          `json:"name"`
	RestartPolicy string          `json:"restartPolicy,omitempty"`
	Ports         []ContainerPort `json:"ports,omitempty"`
}

// ContainerPort names a port of a pod.
type ContainerPort struct {
	Name          string   `json:"name,omitempty"`
	ContainerPort uint16   `json:"containerPort"`
	Protocol      Protocol `json:"protocol,omitempty"` // zero: TCP
}

// PodStatus tells a pod's addresses and whether it still has them.
type PodStatus struct {
	Phase   string   `json:"phase,omitempty"` // Succeeded and Failed pods have given their addresses back
	PodIP   string   `json:"podIP,omitempty"`
	PodIPs  []PodIP  `json:"podIPs,omitempty"`
	HostIP  string   `json:"hostIP,omitempty"`
	HostIPs []HostIP `json:"hostIPs,omitempty"`
}

// HostIP is one address of the node that a pod runs on.
type HostIP struct {
	IP string `json:"ip"`
}

// PodIP is one address of a pod.
type PodIP struct {
	IP string `json:"ip"`
}

// Addrs returns the addresses that policies know the pod by: none when it shares the node's network or has finished.
func (p *Pod) Addrs() []netip.Addr {
	if p.Spec.HostNetwork || p.Status.Phase == "Succeeded" || p.Status.Phase == "Failed" {
		return nil
	}
	var out []netip.Addr
	for _, ip := range p.Status.PodIPs {
		if a, err := netip.ParseAddr(ip.IP); err == nil {
			out = append(out, a.Unmap())
		}
	}
	if a, err := netip.ParseAddr(p.Status.PodIP); err == nil && len(out) == 0 {
		out = append(out, a.Unmap())
	}
	return out
}

// port finds the number of a named port of the given protocol.
func (p *Pod) port(name string, proto Protocol) (uint16, bool) {
	find := func(c *Container) (uint16, bool) {
		for _, port := range c.Ports {
			if port.Name == name && port.Protocol.orTCP() == proto {
				return port.ContainerPort, true
			}
		}
		return 0, false
	}
	for i := range p.Spec.Containers {
		if n, ok := find(&p.Spec.Containers[i]); ok {
			return n, true
		}
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy == "Always" {
			if n, ok := find(c); ok {
				return n, true
			}
		}
	}
	return 0, false
}
