package links

import "net/netip"

// Shape limits a container's traffic on the node's end of its pair. Towards the container the limit is on the end itself; from the
// container traffic is led through an ifb device and limited there, for a queue only works on what leaves a device. The zero Shape
// limits nothing.
type Shape struct {
	In, Out Rate           // towards the container, and from it
	Device  string         `json:",omitempty"` // the ifb device, if Out is set
	Only    []netip.Prefix `json:",omitempty"` // if not empty, only traffic with peers in these is limited
	Except  []netip.Prefix `json:",omitempty"` // traffic with peers in these is not
}

// Rate is a token bucket (tc-tbf(8)).
type Rate struct {
	Bits  uint64 `json:",omitempty"` // per second; zero: no limit
	Burst uint64 `json:",omitempty"` // bits that may pass at once
}

// IsZero reports whether s limits nothing.
func (s Shape) IsZero() bool { return s.In.Bits == 0 && s.Out.Bits == 0 }
