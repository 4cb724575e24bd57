package service

// Type says how a Service is exposed.
type Type string

// The types of a Service. Each includes the one before it, but for TypeExternalName, which has no addresses at all.
const (
	TypeClusterIP    Type = "ClusterIP"
	TypeNodePort     Type = "NodePort"
	TypeLoadBalancer Type = "LoadBalancer"
	TypeExternalName Type = "ExternalName"
)

func (t Type) String() string { return string(t) }

// Protocol is a transport protocol.
type Protocol string

// The protocols of a port.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

func (p Protocol) String() string { return string(p) }

// Affinity says whether a client stays with its endpoint.
type Affinity string

// The session affinities.
const (
	AffinityNone     Affinity = "None"
	AffinityClientIP Affinity = "ClientIP"
)

func (a Affinity) String() string { return string(a) }

// TrafficPolicy says which endpoints traffic may reach.
type TrafficPolicy string

// The traffic policies (KEP-2086).
const (
	PolicyCluster TrafficPolicy = "Cluster" // endpoints on any node
	PolicyLocal   TrafficPolicy = "Local"   // only endpoints on the node that the packet came to
)

func (p TrafficPolicy) String() string { return string(p) }

// TrafficDistribution says which endpoints traffic prefers when there is a choice (KEP-4444, KEP-3015).
type TrafficDistribution string

// The traffic distributions.
const (
	PreferClose    TrafficDistribution = "PreferClose" // the older name of PreferSameZone
	PreferSameZone TrafficDistribution = "PreferSameZone"
	PreferSameNode TrafficDistribution = "PreferSameNode"
)

func (d TrafficDistribution) String() string { return string(d) }

// IPFamily is a family of addresses.
type IPFamily string

// The families.
const (
	IPv4 IPFamily = "IPv4"
	IPv6 IPFamily = "IPv6"
)

func (f IPFamily) String() string { return string(f) }

// IPFamilyPolicy says how many families a Service has.
type IPFamilyPolicy string

// The policies.
const (
	SingleStack      IPFamilyPolicy = "SingleStack"
	PreferDualStack  IPFamilyPolicy = "PreferDualStack"
	RequireDualStack IPFamilyPolicy = "RequireDualStack"
)

func (p IPFamilyPolicy) String() string { return string(p) }

// IPMode says how a load balancer hands over packets (KEP-1860).
type IPMode string

// The modes.
const (
	ModeVIP   IPMode = "VIP"   // packets reach the node with the load balancer's address: the node serves it
	ModeProxy IPMode = "Proxy" // packets reach the node with another address: the node leaves the load balancer's alone
)

func (m IPMode) String() string { return string(m) }

// AddressType is the kind of address in an EndpointSlice.
type AddressType string

// The address types. Slices of AddressFQDN give no endpoints.
const (
	AddressIPv4 AddressType = "IPv4"
	AddressIPv6 AddressType = "IPv6"
	AddressFQDN AddressType = "FQDN"
)

func (a AddressType) String() string { return string(a) }
