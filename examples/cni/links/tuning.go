package links

import "net/netip"

// Tuning is what a container's interface and namespace get beyond addresses and the routes of the main table.
type Tuning struct {
	Sysctls  map[string]string `json:",omitempty"` // by name; IFNAME stands for the interface
	MAC      string            `json:",omitempty"` // empty: as it is
	MTU      int               `json:",omitempty"` // zero: as it is
	Promisc  bool              `json:",omitempty"`
	AllMulti *bool             `json:",omitempty"` // nil: as it is
	TxQLen   *int              `json:",omitempty"` // nil: as it is
	Routes   []Route           `json:",omitempty"`

	// Sources are addresses whose traffic leaves by routes of its own, SourceRoutes, in Table; zero: the first free one from 100.
	Sources      []netip.Addr `json:",omitempty"`
	SourceRoutes []Route      `json:",omitempty"`
	Table        int          `json:",omitempty"`
}

// Route is a route of the interface in any table.
type Route struct {
	To       netip.Prefix
	Via      netip.Addr
	OnLink   bool `json:",omitempty"`
	MTU      int  `json:",omitempty"`
	AdvMSS   int  `json:",omitempty"`
	Priority int  `json:",omitempty"`
	Table    int  `json:",omitempty"` // zero: main
	Scope    int  `json:",omitempty"`
}

// IsZero reports whether there is nothing to do.
func (t Tuning) IsZero() bool {
	return len(t.Sysctls) == 0 && !t.touchesDevice() && len(t.Routes)+len(t.Sources) == 0
}

func (t Tuning) touchesDevice() bool {
	return t.MAC != "" || t.MTU != 0 || t.Promisc || t.AllMulti != nil || t.TxQLen != nil
}

// Device is what an interface was before it was tuned.
type Device struct {
	MAC      string
	MTU      int
	Promisc  bool
	AllMulti bool
	TxQLen   int
}
