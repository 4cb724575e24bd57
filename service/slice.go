package service

// The labels that this package reads.
const (
	// LabelServiceName on an EndpointSlice names the Service that it belongs to.
	LabelServiceName = "kubernetes.io/service-name"
	// LabelProxyName on a Service hands it to another proxy: only a State with the same ProxyName serves it.
	LabelProxyName = "service.kubernetes.io/service-proxy-name"
	// LabelZone on a Node is its zone.
	LabelZone = "topology.kubernetes.io/zone"
)

// EndpointSlice is a discovery.k8s.io/v1 EndpointSlice: some of the endpoints of the Service that its label LabelServiceName names.
type EndpointSlice struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	Meta       `json:"metadata,omitempty"`

	AddressType AddressType     `json:"addressType"`
	Endpoints   []SliceEndpoint `json:"endpoints"`
	Ports       []SlicePort     `json:"ports"`
}

// service returns the Service that the slice belongs to; its name is empty when the label is missing.
func (s *EndpointSlice) service() Name {
	return Name{Namespace: s.Namespace, Name: s.Labels[LabelServiceName]}
}

// SliceEndpoint is one backend of an EndpointSlice. Of several addresses only the first is used (they are all the same pod).
type SliceEndpoint struct {
	Addresses          []string          `json:"addresses"`
	Conditions         Conditions        `json:"conditions,omitempty"`
	Hostname           *string           `json:"hostname,omitempty"`
	TargetRef          *ObjectReference  `json:"targetRef,omitempty"`
	DeprecatedTopology map[string]string `json:"deprecatedTopology,omitempty"`
	NodeName           *string           `json:"nodeName,omitempty"`
	Zone               *string           `json:"zone,omitempty"`
	Hints              *Hints            `json:"hints,omitempty"`
}

// Conditions of an endpoint (KEP-1672).
type Conditions struct {
	Ready       *bool `json:"ready,omitempty"`       // nil means true
	Serving     *bool `json:"serving,omitempty"`     // nil means true
	Terminating *bool `json:"terminating,omitempty"` // nil means false
}

// Hints say which clients an endpoint is best for (KEP-2433).
type Hints struct {
	ForZones []ForZone `json:"forZones,omitempty"`
	ForNodes []ForNode `json:"forNodes,omitempty"`
}

// ForZone is a hint for clients in a zone.
type ForZone struct {
	Name string `json:"name"`
}

// ForNode is a hint for clients on a node.
type ForNode struct {
	Name string `json:"name"`
}

// SlicePort is a port that every endpoint of a slice has. It belongs to the port of the Service with the same name and protocol.
type SlicePort struct {
	Name        *string   `json:"name,omitempty"`     // nil means ""
	Protocol    *Protocol `json:"protocol,omitempty"` // nil means TCP
	Port        *int32    `json:"port,omitempty"`     // nil: the port is skipped
	AppProtocol *string   `json:"appProtocol,omitempty"`
}
