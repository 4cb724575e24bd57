package policy

import (
	"encoding/json"
	"strconv"
)

// NetworkPolicy has the JSON of networking.k8s.io/v1 NetworkPolicy. It isolates the pods that it selects, separately for each of its
// directions: what no policy that isolates a pod in a direction allows is denied.
type NetworkPolicy struct {
	Kind       string            `json:"kind,omitempty"`
	APIVersion string            `json:"apiVersion,omitempty"`
	Meta       Meta              `json:"metadata"`
	Spec       NetworkPolicySpec `json:"spec"`
}

// NetworkPolicySpec says whom a policy isolates and what it allows them.
type NetworkPolicySpec struct {
	// PodSelector selects pods of the policy's own namespace; empty selects all of them.
	PodSelector Selector `json:"podSelector"`
	// Ingress lists what may reach the pods. Nil and empty allow nothing, when the policy is for ingress at all.
	Ingress []IngressRule `json:"ingress,omitempty"`
	// Egress lists what the pods may reach.
	Egress []EgressRule `json:"egress,omitempty"`
	// PolicyTypes are the directions in which the policy isolates. None means Ingress, and Egress too if there is an egress rule: here nil
	// and empty are the same, as they are to the API server.
	PolicyTypes []Direction `json:"policyTypes,omitempty"`
}

// Direction is ingress or egress, from the pod's point of view.
type Direction string

// The two directions.
const (
	Ingress Direction = "Ingress"
	Egress  Direction = "Egress"
)

// String returns "Ingress" or "Egress".
func (d Direction) String() string { return string(d) }

// IngressRule allows traffic from any of From to any of Ports.
type IngressRule struct {
	Ports []Port `json:"ports,omitempty"` // nil and empty: every port of every protocol
	From  []Peer `json:"from,omitempty"`  // nil and empty: everyone
}

// EgressRule allows traffic to any of To on any of Ports.
type EgressRule struct {
	Ports []Port `json:"ports,omitempty"` // nil and empty: every port of every protocol
	To    []Peer `json:"to,omitempty"`    // nil and empty: everywhere
}

// Peer is one kind of other end. IPBlock excludes the other two fields. A peer with nothing set selects nothing.
type Peer struct {
	PodSelector       *Selector `json:"podSelector,omitempty"`       // pods of the policy's namespace, or of those NamespaceSelector selects
	NamespaceSelector *Selector `json:"namespaceSelector,omitempty"` // all pods of these namespaces, unless PodSelector narrows them
	IPBlock           *IPBlock  `json:"ipBlock,omitempty"`
}

// IPBlock is a range of addresses without some parts of it.
type IPBlock struct {
	CIDR   string   `json:"cidr"`
	Except []string `json:"except,omitempty"`
}

// Port is a port, a range of ports, or all ports of a protocol.
type Port struct {
	Protocol *Protocol `json:"protocol,omitempty"` // nil: TCP
	Port     *PortRef  `json:"port,omitempty"`     // nil: every port of the protocol
	EndPort  *int32    `json:"endPort,omitempty"`  // with a numeric Port: the last port of a range
}

// Protocol is a transport protocol.
type Protocol string

// The protocols that policies can tell apart. Packets of others match only rules that name no port.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// String returns the protocol's name.
func (p Protocol) String() string { return string(p) }

func (p Protocol) orTCP() Protocol {
	if p == "" {
		return TCP
	}
	return p
}

// PortRef is a port by number or by the name that the destination pod gives it; in JSON a number or a string.
type PortRef struct {
	Number int32
	Name   string // wins over Number when not empty
}

// String returns the name or the number.
func (p PortRef) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(int(p.Number))
}

// MarshalJSON writes a string when there is a name, else a number.
func (p PortRef) MarshalJSON() ([]byte, error) {
	if p.Name != "" {
		return json.Marshal(p.Name)
	}
	return json.Marshal(p.Number)
}

// UnmarshalJSON reads a string or a number.
func (p *PortRef) UnmarshalJSON(b []byte) error {
	*p = PortRef{}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &p.Name)
	}
	return json.Unmarshal(b, &p.Number)
}

// isolates tells in which directions the policy isolates the pods that it selects.
func (p *NetworkPolicy) isolates(d Direction) bool {
	if len(p.Spec.PolicyTypes) == 0 {
		return d == Ingress || len(p.Spec.Egress) > 0
	}
	for _, t := range p.Spec.PolicyTypes {
		if t == d {
			return true
		}
	}
	return false
}
