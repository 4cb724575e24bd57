package service

// Service is a v1 Service: a stable address and port in front of a changing set of pods. Its JSON is the one of Kubernetes.
type Service struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	Meta       `json:"metadata,omitempty"`

	Spec   Spec   `json:"spec,omitempty"`
	Status Status `json:"status,omitempty"`
}

// Spec is what a Service asks for. The defaults named here are those of the API server; they hold as well for objects that never passed one.
type Spec struct {
	Ports []Port `json:"ports,omitempty"`
	// Selector picks the pods of the same namespace that have all these labels. Empty: none; the endpoints come from EndpointSlices alone.
	Selector map[string]string `json:"selector,omitempty"`
	// ClusterIP is the first of ClusterIPs, "None" for a headless Service, or empty for one that has got no address yet.
	ClusterIP  string   `json:"clusterIP,omitempty"`
	ClusterIPs []string `json:"clusterIPs,omitempty"` // at most one of each family
	Type       Type     `json:"type,omitempty"`       // default ClusterIP
	// ExternalIPs are further addresses that this Service answers on when something else routes them to the node.
	ExternalIPs     []string `json:"externalIPs,omitempty"`
	SessionAffinity Affinity `json:"sessionAffinity,omitempty"` // default None
	LoadBalancerIP  string   `json:"loadBalancerIP,omitempty"`
	// LoadBalancerSourceRanges are the clients that may use the load balancer's addresses (not the node ports). Empty: all, of either family.
	LoadBalancerSourceRanges []string      `json:"loadBalancerSourceRanges,omitempty"`
	ExternalName             string        `json:"externalName,omitempty"`
	ExternalTrafficPolicy    TrafficPolicy `json:"externalTrafficPolicy,omitempty"` // default Cluster
	HealthCheckNodePort      int32         `json:"healthCheckNodePort,omitempty"`
	// PublishNotReadyAddresses makes every pod count as ready (when endpoints are chosen by Selector; in EndpointSlices it is already in the conditions).
	PublishNotReadyAddresses bool            `json:"publishNotReadyAddresses,omitempty"`
	SessionAffinityConfig    *AffinityConfig `json:"sessionAffinityConfig,omitempty"`
	IPFamilies               []IPFamily      `json:"ipFamilies,omitempty"`
	IPFamilyPolicy           *IPFamilyPolicy `json:"ipFamilyPolicy,omitempty"`
	// AllocateLoadBalancerNodePorts speaks to whoever allocates node ports. A port that has one is served in either case.
	AllocateLoadBalancerNodePorts *bool                `json:"allocateLoadBalancerNodePorts,omitempty"`
	LoadBalancerClass             *string              `json:"loadBalancerClass,omitempty"`
	InternalTrafficPolicy         *TrafficPolicy       `json:"internalTrafficPolicy,omitempty"` // default Cluster
	TrafficDistribution           *TrafficDistribution `json:"trafficDistribution,omitempty"`   // KEP-4444, KEP-3015
}

// Port is one port of a Service.
type Port struct {
	Name        string   `json:"name,omitempty"`     // may be empty when the Service has only this one
	Protocol    Protocol `json:"protocol,omitempty"` // default TCP
	AppProtocol *string  `json:"appProtocol,omitempty"`
	Port        int32    `json:"port"`
	TargetPort  PortRef  `json:"targetPort,omitempty"` // default: the number in Port
	NodePort    int32    `json:"nodePort,omitempty"`   // 0: none
}

// AffinityConfig refines SessionAffinity.
type AffinityConfig struct {
	ClientIP *ClientIPConfig `json:"clientIP,omitempty"`
}

// ClientIPConfig refines AffinityClientIP.
type ClientIPConfig struct {
	TimeoutSeconds *int32 `json:"timeoutSeconds,omitempty"` // 1 to 86400, default 10800
}

// Status is what others have made of a Service.
type Status struct {
	LoadBalancer LoadBalancer `json:"loadBalancer,omitempty"`
	Conditions   []Condition  `json:"conditions,omitempty"`
}

// LoadBalancer says where a load balancer listens for a Service.
type LoadBalancer struct {
	Ingress []Ingress `json:"ingress,omitempty"`
}

// Ingress is one address of a load balancer. Loopback, link-local, multicast and unspecified addresses are not served.
type Ingress struct {
	IP       string       `json:"ip,omitempty"`
	Hostname string       `json:"hostname,omitempty"`
	IPMode   *IPMode      `json:"ipMode,omitempty"` // default VIP, KEP-1860
	Ports    []PortStatus `json:"ports,omitempty"`
}

// PortStatus is the state of one port of a load balancer.
type PortStatus struct {
	Port     int32    `json:"port"`
	Protocol Protocol `json:"protocol"`
	Error    *string  `json:"error,omitempty"`
}

// Pod is the part of a v1 Pod that decides whether and where it serves.
type Pod struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	Meta       `json:"metadata,omitempty"`

	Spec   PodSpec   `json:"spec,omitempty"`
	Status PodStatus `json:"status,omitempty"`
}

// PodSpec is where a pod runs and which ports its containers name.
type PodSpec struct {
	NodeName       string      `json:"nodeName,omitempty"`
	InitContainers []Container `json:"initContainers,omitempty"`
	Containers     []Container `json:"containers"`
}

// Container is the named ports of a container. An init container counts when its RestartPolicy is Always (a sidecar, KEP-753).
type Container struct {
	Name          string          `json:"name"`
	RestartPolicy *string         `json:"restartPolicy,omitempty"`
	Ports         []ContainerPort `json:"ports,omitempty"`
}

// ContainerPort is a port that a container names.
type ContainerPort struct {
	Name          string   `json:"name,omitempty"`
	HostPort      int32    `json:"hostPort,omitempty"`
	ContainerPort int32    `json:"containerPort"`
	Protocol      Protocol `json:"protocol,omitempty"` // default TCP
	HostIP        string   `json:"hostIP,omitempty"`
}

// PodStatus is the addresses and the readiness of a pod.
type PodStatus struct {
	Phase      string         `json:"phase,omitempty"`
	Conditions []PodCondition `json:"conditions,omitempty"`
	PodIP      string         `json:"podIP,omitempty"` // used when PodIPs is empty
	PodIPs     []PodIP        `json:"podIPs,omitempty"`
}

// PodCondition is one condition of a pod; Type "Ready" with Status "True" is the one that counts.
type PodCondition struct {
	Type   string `json:"type"`
	Status string `json:"status"`
}

// PodIP is one address of a pod.
type PodIP struct {
	IP string `json:"ip"`
}

// Node is the part of a v1 Node that service routing looks at: its name, the label topology.kubernetes.io/zone, and its addresses.
type Node struct {
	Kind       string `json:"kind,omitempty"`
	APIVersion string `json:"apiVersion,omitempty"`
	Meta       `json:"metadata,omitempty"`

	Spec   NodeSpec   `json:"spec,omitempty"`
	Status NodeStatus `json:"status,omitempty"`
}

// NodeSpec is the pod networks of a node.
type NodeSpec struct {
	PodCIDR  string   `json:"podCIDR,omitempty"`
	PodCIDRs []string `json:"podCIDRs,omitempty"`
}

// NodeStatus is the addresses of a node.
type NodeStatus struct {
	Addresses []NodeAddress `json:"addresses,omitempty"`
}

// NodeAddress is one address of a node; Type "InternalIP" makes its first of each family the node's primary address.
type NodeAddress struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}
