package policy

import "time"

// ClusterNetworkPolicy has the JSON of policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy: ordered rules of the cluster's
// administrators, above (Admin) or below (Baseline) the NetworkPolicies.
type ClusterNetworkPolicy struct {
	Kind       string              `json:"kind,omitempty"`
	APIVersion string              `json:"apiVersion,omitempty"`
	Meta       Meta                `json:"metadata"`
	Spec       ClusterPolicySpec   `json:"spec"`
	Status     ClusterPolicyStatus `json:"status,omitzero"`
}

// ClusterPolicyStatus is what implementations report. It means nothing here and is carried.
type ClusterPolicyStatus struct {
	Conditions []Condition `json:"conditions"`
}

// Condition is one of the conditions that an implementation reports.
type Condition struct {
	Type               string     `json:"type"`
	Status             string     `json:"status"`
	ObservedGeneration int64      `json:"observedGeneration,omitempty"`
	LastTransitionTime *time.Time `json:"lastTransitionTime"` // nil is written as null, as Kubernetes does
	Reason             string     `json:"reason"`
	Message            string     `json:"message"`
}

// ClusterPolicySpec says whom the rules are for and how they rank.
type ClusterPolicySpec struct {
	Tier Tier `json:"tier"`
	// Priority ranks the policy in its tier, 0 to 1000; the lowest number decides first. The API leaves the order of equal priorities
	// open: here the name decides.
	Priority int32                `json:"priority"`
	Subject  Subject              `json:"subject"`
	Ingress  []ClusterIngressRule `json:"ingress,omitempty"`
	Egress   []ClusterEgressRule  `json:"egress,omitempty"`
}

// Tier is a group of policies that is asked before or after the NetworkPolicies.
type Tier string

// The tiers in the order in which they are asked. NetworkPolicies are the tier between the two of ClusterNetworkPolicy.
const (
	Admin             Tier = "Admin"
	NetworkPolicyTier Tier = "NetworkPolicy"
	Baseline          Tier = "Baseline"
)

// String returns the tier's name.
func (t Tier) String() string { return string(t) }

// Subject selects the pods that a ClusterNetworkPolicy is for: exactly one field is set.
type Subject struct {
	Namespaces *Selector      `json:"namespaces,omitempty"`
	Pods       *NamespacedPod `json:"pods,omitempty"`
}

// NamespacedPod selects pods of selected namespaces.
type NamespacedPod struct {
	NamespaceSelector Selector `json:"namespaceSelector"`
	PodSelector       Selector `json:"podSelector"`
}

// Action is what a rule of a ClusterNetworkPolicy does with what it matches.
type Action string

// The actions. Accept and Deny are final; Pass skips the rest of the tier.
const (
	Accept Action = "Accept"
	Deny   Action = "Deny"
	Pass   Action = "Pass"
)

// String returns the action's name.
func (a Action) String() string { return string(a) }

// ClusterIngressRule acts on traffic from any of From on any of Protocols (nil: all).
type ClusterIngressRule struct {
	Name      string               `json:"name,omitempty"`
	Action    Action               `json:"action"`
	From      []ClusterIngressPeer `json:"from"`
	Protocols []ClusterProtocol    `json:"protocols,omitempty"`
}

// ClusterEgressRule acts on traffic to any of To on any of Protocols (nil: all).
type ClusterEgressRule struct {
	Name      string              `json:"name,omitempty"`
	Action    Action              `json:"action"`
	To        []ClusterEgressPeer `json:"to"`
	Protocols []ClusterProtocol   `json:"protocols,omitempty"`
}

// ClusterIngressPeer selects senders: exactly one field is set. A peer without any is of a later version of the API, and the rule
// fails closed: Accept matches nothing, Deny and Pass deny everything, whatever else the rule says. So does a rule with a peer, port or
// selector that cannot be read.
type ClusterIngressPeer struct {
	Namespaces *Selector      `json:"namespaces,omitempty"`
	Pods       *NamespacedPod `json:"pods,omitempty"`
}

// ClusterEgressPeer selects receivers: exactly one field is set, else the rule fails closed as for ClusterIngressPeer.
type ClusterEgressPeer struct {
	Namespaces  *Selector      `json:"namespaces,omitempty"`
	Pods        *NamespacedPod `json:"pods,omitempty"`
	Nodes       *Selector      `json:"nodes,omitempty"`
	Networks    []string       `json:"networks,omitempty"`    // CIDRs
	DomainNames []string       `json:"domainNames,omitempty"` // exact, or "*." and a parent; only for Accept, see State.Domains
}

// ClusterProtocol matches a protocol and, if given, a port: exactly one field is set. One without any, of a later version of the
// API, fails closed.
type ClusterProtocol struct {
	TCP                  *ProtocolPort `json:"tcp,omitempty"`
	UDP                  *ProtocolPort `json:"udp,omitempty"`
	SCTP                 *ProtocolPort `json:"sctp,omitempty"`
	DestinationNamedPort string        `json:"destinationNamedPort,omitempty"` // of any protocol, as the destination pod names it
}

// ProtocolPort is the port of a ClusterProtocol. The API has no way to say "every port of TCP": nil DestinationPort is of a later
// version, and the rule fails closed.
type ProtocolPort struct {
	DestinationPort *ClusterPort `json:"destinationPort,omitempty"`
}

// ClusterPort is one port or a range of ports: exactly one field is set.
type ClusterPort struct {
	Number int32      `json:"number,omitempty"`
	Range  *PortRange `json:"range,omitempty"`
}

// PortRange is a range of ports, both ends included.
type PortRange struct {
	Start int32 `json:"start"`
	End   int32 `json:"end"`
}
