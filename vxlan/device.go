package vxlan

import (
	"fmt"
	"net/netip"
	"strings"
)

// change is one setting of a device that differs.
type change struct {
	name     string
	from, to string
	again    bool // the kernel refuses to change it: the device is made again
}

func (c change) String() string { return fmt.Sprintf("%s %s -> %s", c.name, c.from, c.to) }

// changes lists what must change in d to become want. The fields of want that Resolve fills in are left out while they are zero. What the kernel
// refuses to change is said by vxlan_nl2conf in drivers/net/vxlan/vxlan_core.c. It takes another source, but learned entries keep the old one.
func (d *Device) changes(want *Device) []change {
	var out []change
	add := func(name string, from, to any, differ, again bool) {
		if differ {
			out = append(out, change{name: name, from: show(from), to: show(to), again: again})
		}
	}
	add("vni", d.VNI, want.VNI, d.VNI != want.VNI, true)
	add("port", d.port(), want.port(), d.port() != want.port(), true)
	add("source", d.Source, want.Source, want.Source.IsValid() && d.Source != want.Source, d.Source.BitLen() != want.Source.BitLen() || d.Learning)
	add("underlay", d.Underlay, want.Underlay, d.Underlay != want.Underlay, want.Underlay == "")
	add("mtu", d.MTU, want.MTU, want.MTU != 0 && d.MTU != want.MTU, false)
	add("mac", d.MAC, want.MAC, !want.MAC.IsZero() && d.MAC != want.MAC, false)
	add("learning", d.Learning, want.Learning, d.Learning != want.Learning, false)
	add("gbp", d.GBP, want.GBP, d.GBP != want.GBP, true)
	add("zero checksum", d.ZeroChecksum, want.ZeroChecksum, d.ZeroChecksum != want.ZeroChecksum, true)
	add("zero checksum6 tx", d.ZeroChecksum6Tx, want.ZeroChecksum6Tx, d.ZeroChecksum6Tx != want.ZeroChecksum6Tx, true)
	add("zero checksum6 rx", d.ZeroChecksum6Rx, want.ZeroChecksum6Rx, d.ZeroChecksum6Rx != want.ZeroChecksum6Rx, true)
	add("ttl", d.TTL, want.TTL, d.TTL != want.TTL, false)
	add("tos", d.TOS, want.TOS, d.TOS != want.TOS, false)
	add("source ports", d.SourcePorts, want.SourcePorts, d.SourcePorts != want.SourcePorts, true)
	add("bridge", d.Bridge, want.Bridge, d.Bridge != want.Bridge, false)
	return out
}

// show prints a setting's value for a plan.
func show(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "on"
		}
		return "off"
	case string:
		if v == "" {
			return "none"
		}
	case netip.Addr:
		if !v.IsValid() {
			return "none"
		}
	}
	return fmt.Sprint(v)
}

// String returns "low-high", or "kernel" for the zero range.
func (r PortRange) String() string {
	if r == (PortRange{}) {
		return "kernel"
	}
	return fmt.Sprintf("%d-%d", r.Low, r.High)
}

// again reports whether one of the changes needs the device to be made again.
func again(changes []change) bool {
	for _, c := range changes {
		if c.again {
			return true
		}
	}
	return false
}

// describe prints the settings of a new device, without those that are off or the kernel's.
func (d *Device) describe() string {
	parts := []string{fmt.Sprintf("vni %d port %d", d.VNI, d.port())}
	add := func(set bool, format string, args ...any) {
		if set {
			parts = append(parts, fmt.Sprintf(format, args...))
		}
	}
	add(d.Source.IsValid(), "source %s", d.Source)
	add(d.Underlay != "", "underlay %s", d.Underlay)
	add(d.MTU != 0, "mtu %d", d.MTU)
	add(!d.MAC.IsZero(), "mac %s", d.MAC)
	add(d.Learning, "learning")
	add(d.GBP, "gbp")
	add(d.ZeroChecksum, "zero checksum")
	add(d.ZeroChecksum6Tx, "zero checksum6 tx")
	add(d.ZeroChecksum6Rx, "zero checksum6 rx")
	add(d.TTL != 0, "ttl %d", d.TTL)
	add(d.TOS != 0, "tos %d", d.TOS)
	add(d.SourcePorts != PortRange{}, "source ports %s", d.SourcePorts)
	add(d.Bridge != "", "bridge %s", d.Bridge)
	return strings.Join(parts, " ")
}
