package conf

import (
	"encoding/json"
	"net/netip"
)

// Net is a network configuration. Zero values are the defaults unless a field says otherwise.
type Net struct {
	CNIVersion string          `json:"cniVersion"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
	Caps       map[string]bool `json:"capabilities"`
	PrevResult json.RawMessage `json:"prevResult"`
	Valid      []Attachment    `json:"cni.dev/valid-attachments"`
	Args       Args            `json:"args"`
	Runtime    Runtime         `json:"runtimeConfig"`

	Mode    Mode   `json:"mode"` // bridge by default
	DataDir string `json:"dataDir"`

	// Bridge mode.
	Bridge                    string      `json:"bridge"` // cni0 by default
	IsGateway                 bool        `json:"isGateway"`
	IsDefaultGateway          bool        `json:"isDefaultGateway"` // implies isGateway
	ForceAddress              bool        `json:"forceAddress"`
	HairpinMode               bool        `json:"hairpinMode"`
	PromiscMode               bool        `json:"promiscMode"` // excludes hairpinMode
	VLAN                      int         `json:"vlan"`        // 0: none
	VLANTrunk                 []VLANTrunk `json:"vlanTrunk"`
	PreserveDefaultVLAN       *bool       `json:"preserveDefaultVlan"` // true by default
	PortIsolation             bool        `json:"portIsolation"`
	MACSpoofCheck             bool        `json:"macspoofchk"`
	DisableContainerInterface bool        `json:"disableContainerInterface"`

	// Both modes.
	MTU           int     `json:"mtu"`
	EnableDAD     bool    `json:"enabledad"`
	IPMasq        bool    `json:"ipMasq"`
	IPMasqBackend *string `json:"ipMasqBackend"` // accepted; nftables is what there is
	IPAM          *IPAM   `json:"ipam"`
	DNS           DNS     `json:"dns"`

	// Host ports (portmap).
	SNAT            *bool          `json:"snat"` // true by default
	MasqAll         bool           `json:"masqAll"`
	Backend         *string        `json:"backend"`              // accepted; nftables is what there is
	MarkMasqBit     *int           `json:"markMasqBit"`          // accepted; no mark is needed
	SetMarkChain    *string        `json:"externalSetMarkChain"` // refused
	ConditionsV4    *[]string      `json:"conditionsV4"`         // refused unless empty
	ConditionsV6    *[]string      `json:"conditionsV6"`         // refused unless empty
	Bandwidth                      // of every pod, unless the runtime says otherwise
	UnshapedSubnets []netip.Prefix `json:"unshapedSubnets"`
	ShapedSubnets   []netip.Prefix `json:"shapedSubnets"`

	// Pod's interface (tuning).
	Sysctl   map[string]string `json:"sysctl"`
	MAC      string            `json:"mac"`
	Promisc  bool              `json:"promisc"`
	AllMulti *bool             `json:"allmulti"`
	TxQLen   *int              `json:"txQLen"`

	// Source-based routing (sbr).
	SourceRouting bool `json:"sourceRouting"`
	Table         *int `json:"table"` // implies sourceRouting; the first free one from 100 by default
}

// Args are what the configuration's generator passes for this plugin among others: unknown ones are not for it.
type Args struct {
	CNI CNIArgs `json:"cni"`
}

// CNIArgs are the arguments by the conventions of the specification.
type CNIArgs struct {
	IPs []string `json:"ips"` // addresses, with or without a prefix length
	MAC string   `json:"mac"`
}

// Mode is how a pod is joined to its node.
type Mode string

// The modes.
const (
	BridgeMode Mode = "bridge" // a port of a bridge
	RoutedMode Mode = "ptp"    // a point-to-point link and a route
)

// String returns "bridge" or "ptp".
func (m Mode) String() string { return string(m) }

// Runtime is what the container runtime passes for one pod. Capabilities that are not known here are ignored, as the specification
// asks.
type Runtime struct {
	PortMappings []PortMapping `json:"portMappings"`
	IPRanges     [][]IPRange   `json:"ipRanges"`
	IPs          []string      `json:"ips"` // addresses, with or without a prefix length
	MAC          string        `json:"mac"`
	Bandwidth    *Bandwidth    `json:"bandwidth"`
	DNS          *RuntimeDNS   `json:"dns"`
}

// PortMapping leads a port of the node to one of the pod.
type PortMapping struct {
	HostPort      int    `json:"hostPort"` // 0: this entry maps nothing
	ContainerPort int    `json:"containerPort"`
	Protocol      string `json:"protocol"` // tcp, udp or sctp; tcp by default
	HostIP        string `json:"hostIP"`   // empty or unspecified: every address of the node
}

// Bandwidth limits a pod's traffic. Rates are in bits per second and bursts in bits; ingress is towards the pod. Zero: no limit.
type Bandwidth struct {
	IngressRate  uint64 `json:"ingressRate"`
	IngressBurst uint64 `json:"ingressBurst"`
	EgressRate   uint64 `json:"egressRate"`
	EgressBurst  uint64 `json:"egressBurst"`
}

// IsZero reports whether nothing is limited.
func (b Bandwidth) IsZero() bool { return b == Bandwidth{} }

// VLANTrunk is one VLAN or a range of them that passes tagged.
type VLANTrunk struct {
	MinID *int `json:"minID"`
	MaxID *int `json:"maxID"`
	ID    *int `json:"id"`
}

// IPAM says which addresses and routes pods get.
type IPAM struct {
	Type       string      `json:"type"` // host-local or static, both built in
	Ranges     [][]IPRange `json:"ranges"`
	Addresses  []Static    `json:"addresses"` // of static
	Routes     []Route     `json:"routes"`
	DataDir    string      `json:"dataDir"` // leases of host-local to take over; /var/lib/cni/networks by default
	ResolvConf string      `json:"resolvConf"`
	DNS        *DNS        `json:"dns"`
	IPRange                // one range, in the old form
}

// IPRange is a range of addresses of one subnet.
type IPRange struct {
	Subnet     string       `json:"subnet"`
	RangeStart netip.Addr   `json:"rangeStart"`
	RangeEnd   netip.Addr   `json:"rangeEnd"`
	Gateway    netip.Addr   `json:"gateway"`
	Reserved   []netip.Addr `json:"reserved"` // never handed out; not in the stock plugins
}

// Static is a fixed address with its prefix length.
type Static struct {
	Address netip.Prefix `json:"address"`
	Gateway netip.Addr   `json:"gateway"`
}

// Route is a route of the pod.
type Route struct {
	Dst      netip.Prefix `json:"dst"`
	GW       netip.Addr   `json:"gw"` // the address's gateway by default
	MTU      int          `json:"mtu"`
	AdvMSS   int          `json:"advmss"`
	Priority int          `json:"priority"`
	Table    *int         `json:"table"`
	Scope    *int         `json:"scope"`
}

// DNS is passed on to the runtime.
type DNS struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

// RuntimeDNS is the dns capability.
type RuntimeDNS struct {
	Servers  []string `json:"servers"`
	Searches []string `json:"searches"`
	Options  []string `json:"options"`
}

// Attachment is one that the runtime still has.
type Attachment struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifname"`
}
