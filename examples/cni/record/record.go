package record

import (
	"encoding/json"
	"net/netip"

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
	Link    string // the node's end of the pair; empty in a chain, where another plugin made it
	Chained bool   `json:",omitempty"`

	// HostLocal is the directory of the host-local plugin whose leases were taken over.
	HostLocal string         `json:",omitempty"`
	Pool      bool           `json:",omitempty"` // addresses come from ranges and go back there
	Addresses []netip.Prefix `json:",omitempty"` // of the container, known after the first entry

	State        veth.State        // of the bridge and the pair
	ForceAddress bool              `json:",omitempty"`
	Node         map[string]string `json:",omitempty"` // sysctls of the node
	Masquerade   []netip.Prefix    `json:",omitempty"` // networks whose traffic leaves under the node's address
	Forwards     []nat.Forward     `json:",omitempty"` // host ports

	Result json.RawMessage `json:",omitempty"` // in the newest version of the specification
	Done   bool            `json:",omitempty"` // ADD came to its end
}
