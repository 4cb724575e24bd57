package vxlan

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Validate reports every fault of s at once, each with its path, as "devices[0].peers[2].subnets[1]: ...". A valid State can still fail in the
// kernel, for want of an underlay for example.
func (s State) Validate() error {
	c := checker{subnets: map[netip.Prefix]place{}}
	names := map[string]int{}
	for i := range s.Devices {
		d := &s.Devices[i]
		at := place{device: i, peer: -1, index: -1}
		if j, ok := names[d.Name]; ok && d.Name != "" {
			c.fault(at.field("name"), "%q is also the name of devices[%d]", d.Name, j)
		} else {
			names[d.Name] = i
		}
		c.device(at, d)
		for j := range i {
			c.pair(at, d, place{device: j, peer: -1, index: -1}, &s.Devices[j])
		}
	}
	return errors.Join(c.faults...)
}

// checker collects faults and what must be unique across devices.
type checker struct {
	faults  []error
	subnets map[netip.Prefix]place
}

func (c *checker) fault(at place, format string, args ...any) {
	c.faults = append(c.faults, fmt.Errorf("%s: %s", at, fmt.Sprintf(format, args...)))
}

// place is where in a State something stands. It is printed for faults only: a large state has many places and, as a rule, no fault.
type place struct {
	device, peer int // peer is -1 for the device itself
	name         string
	index        int    // in the list of that name, -1 for no list
	sub          string // field of a list's element
}

func (p place) field(name string) place           { p.name = name; return p }
func (p place) item(name string, index int) place { p.name, p.index = name, index; return p }
func (p place) of(sub string) place               { p.sub = sub; return p }

// String returns the path, as "devices[0].peers[2].via[1].link".
func (p place) String() string {
	s := fmt.Sprintf("devices[%d]", p.device)
	if p.peer >= 0 {
		s += fmt.Sprintf(".peers[%d]", p.peer)
	}
	if p.name != "" {
		s += "." + p.name
	}
	if p.index >= 0 {
		s += fmt.Sprintf("[%d]", p.index)
	}
	if p.sub != "" {
		s += "." + p.sub
	}
	return s
}

// device checks one device with its peers.
func (c *checker) device(at place, d *Device) {
	c.linkName(at.field("name"), d.Name, true)
	c.linkName(at.field("underlay"), d.Underlay, false)
	c.linkName(at.field("bridge"), d.Bridge, false)
	if d.Name != "" && (d.Underlay == d.Name || d.Bridge == d.Name) {
		c.fault(at.field("name"), "%q cannot be its own underlay or bridge", d.Name)
	}
	if d.VNI == 0 || d.VNI > MaxVNI {
		c.fault(at.field("vni"), "%d is not in 1-%d", d.VNI, MaxVNI)
	}
	switch {
	case d.Source.IsValid():
		c.unicast(at.field("source"), d.Source)
	case d.Underlay == "":
		c.fault(at.field("source"), "needed, because no underlay is named")
	}
	c.mtu(at.field("mtu"), d)
	if !d.MAC.IsZero() && !d.MAC.IsUnicast() {
		c.fault(at.field("mac"), "%s is a group address", d.MAC)
	}
	if r := d.SourcePorts; r != (PortRange{}) && (r.Low == 0 || r.Low > r.High) {
		c.fault(at.field("sourcePorts"), "%d-%d is not a range of ports", r.Low, r.High)
	}
	if d.Bridge != "" && len(d.Addrs) > 0 {
		c.fault(at.field("addrs"), "a bridge port has no addresses of its own; bridge %s takes them", d.Bridge)
	}
	own := map[netip.Addr]bool{}
	for i, a := range d.Addrs {
		p := at.item("addrs", i)
		if !a.IsValid() {
			c.fault(p, "not an address with a prefix length")
			continue
		}
		c.unicast(p, a.Addr())
		if own[a.Addr()] {
			c.fault(p, "%s is given twice", a.Addr())
		}
		own[a.Addr()] = true
	}
	c.peers(at, d, own)
}

// mtu checks an explicit MTU against the limits of IPv4 (RFC 791) and IPv6 (RFC 8200), below which the kernel turns a family off.
func (c *checker) mtu(path place, d *Device) {
	if d.MTU == 0 {
		return
	}
	if least := d.leastMTU(); d.MTU < least || d.MTU > 65535 {
		c.fault(path, "%d is not in %d-65535", d.MTU, least)
	}
}

func (d *Device) leastMTU() int {
	if d.carries6() {
		return 1280
	}
	return 68
}

// carries6 reports whether IPv6 runs inside the tunnel.
func (d *Device) carries6() bool {
	for _, a := range d.Addrs {
		if a.Addr().Is6() {
			return true
		}
	}
	for i := range d.Peers {
		for _, t := range d.Peers[i].Tunnel {
			if t.Is6() {
				return true
			}
		}
	}
	return false
}

// pair checks what two devices may not share. The kernel refuses the same VNI on the same port, and a port whose devices disagree on what they
// receive.
func (c *checker) pair(path place, d *Device, otherPath place, o *Device) {
	if d.port() != o.port() || d.Source.IsValid() && o.Source.IsValid() && d.Source.Is4() != o.Source.Is4() {
		return
	}
	if d.VNI == o.VNI {
		c.fault(path.field("vni"), "%d on port %d is also the VNI of %s", d.VNI, d.port(), otherPath)
	}
	if d.GBP != o.GBP {
		c.fault(path.field("gbp"), "differs from %s on the same port %d", otherPath, d.port())
	}
	if d.ZeroChecksum6Rx != o.ZeroChecksum6Rx {
		c.fault(path.field("zeroChecksum6Rx"), "differs from %s on the same port %d", otherPath, d.port())
	}
}

// linkName checks a name as the kernel does (dev_valid_name).
func (c *checker) linkName(path place, name string, needed bool) {
	switch {
	case name == "" && needed:
		c.fault(path, "needed")
	case name == "":
	case len(name) > 15:
		c.fault(path, "%q is longer than 15 bytes", name)
	case name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n\v\f\r\x00"):
		c.fault(path, "%q is not a link name", name)
	}
}

// unicast checks an address that a node can have.
func (c *checker) unicast(path place, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		c.fault(path, "needed")
	case a.Is4In6():
		c.fault(path, "%s is an IPv4 address in IPv6 form", a)
	case a.Zone() != "" || a.IsLinkLocalUnicast() && a.Is6():
		c.fault(path, "%s is link-local", a)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		c.fault(path, "%s is not a unicast address", a)
	default:
		return true
	}
	return false
}
