package links

import "net/netip"

// Borrowed is a bridge that somebody else made, and what the network wants of it. Everything else of it stays as it is, and so does it
// when the containers go.
type Borrowed struct {
	Bridge    string         // empty: none is
	Gateways  []netip.Prefix `json:",omitempty"` // addresses that it needs
	Force     bool           `json:",omitempty"` // replace addresses that are in their way
	Promisc   bool           `json:",omitempty"`
	Filtering bool           `json:",omitempty"` // of VLANs
	DAD       bool           `json:",omitempty"` // detect duplicates of IPv6 gateways
}
