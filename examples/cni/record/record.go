package record

import (
	"net/netip"

	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/veth"
)

// Key identifies an attachment.
type Key struct {
	Network     string
	ContainerID string
	IfName      string
}

// String prints the key as network/containerID/ifname.
func (k Key) String() string { return k.Network + "/" + k.ContainerID + "/" + k.IfName }

// Attachment is what the plugin made, or was about to make, for one interface of one container.
type Attachment struct {
	Key
	NetNS   string // path of the container's namespace
	Link    string // the node's end of the pair
	Chained bool   `json:",omitempty"` // another plugin made the pair
	Uplink  string `json:",omitempty"` // the bridge that a chained pair is on

	// HostLocal is the directory of the host-local plugin whose leases were taken over.
	HostLocal string         `json:",omitempty"`
	Pool      bool           `json:",omitempty"` // addresses come from ranges and go back there
	Addresses []netip.Prefix `json:",omitempty"` // of the container, known after the first entry

	State        veth.State        // of the bridge and the pair
	Borrowed     links.Borrowed    `json:",omitzero"` // the bridge, when it is somebody else's
	Gateway      veth.State        `json:",omitzero"` // the node's own end in the network's VLAN
	ForceAddress bool              `json:",omitempty"`
	Node         map[string]string `json:",omitempty"` // sysctls of the node
	Masquerade   []netip.Prefix    `json:",omitempty"` // networks whose traffic leaves under the node's address
	Forwards     []nat.Forward     `json:",omitempty"` // host ports
	Localhost    []netip.Addr      `json:",omitempty"` // of the node, in whose name its loopback addresses reach host ports

	Tuning links.Tuning  `json:",omitzero"`  // of the container's interface
	Before *links.Device `json:",omitempty"` // what the interface was, if it stays
	Lock   links.Lock    `json:",omitzero"`  // of the node's end
	Shape  links.Shape   `json:",omitzero"`  // of the node's end

	Done bool `json:",omitempty"` // ADD came to its end
}
