package rtnl

import (
	"context"
	"encoding/binary"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VLAN is one VLAN of a bridge or of a bridge port.
type VLAN struct {
	ID       uint16 // 1 to 4094
	PVID     bool   // untagged frames that come in belong to it
	Untagged bool   // its frames go out without a tag
}

// AddVLAN adds a VLAN to the port with that index; self means the bridge device itself, as a port of its own bridge.
func (c *Conn) AddVLAN(ctx context.Context, index int, v VLAN, self bool) error {
	return c.vlan(ctx, unix.RTM_SETLINK, index, v, v.ID, self)
}

// AddVLANRange adds the VLANs from v.ID to last, which cannot hold a PVID, in one request.
func (c *Conn) AddVLANRange(ctx context.Context, index int, v VLAN, last uint16, self bool) error {
	return c.vlan(ctx, unix.RTM_SETLINK, index, v, last, self)
}

// DelVLAN removes the VLANs from v.ID to last from the port.
func (c *Conn) DelVLAN(ctx context.Context, index int, first, last uint16, self bool) error {
	return c.vlan(ctx, unix.RTM_DELLINK, index, VLAN{ID: first}, last, self)
}

func (c *Conn) vlan(ctx context.Context, kind, index int, v VLAN, last uint16, self bool) error {
	r := newRequest(kind, 0, ifinfomsg(unix.AF_BRIDGE, index, &LinkAttrs{}))
	spec := nested(unix.IFLA_AF_SPEC)
	where := uint16(nl.BRIDGE_FLAGS_MASTER)
	if self {
		where = nl.BRIDGE_FLAGS_SELF
	}
	spec.AddChild(u16(nl.IFLA_BRIDGE_FLAGS, where))
	var flags uint16
	if v.PVID {
		flags |= nl.BRIDGE_VLAN_INFO_PVID
	}
	if v.Untagged {
		flags |= nl.BRIDGE_VLAN_INFO_UNTAGGED
	}
	info := func(flags, id uint16) {
		b := binary.NativeEndian.AppendUint16(nil, flags)
		spec.AddRtAttr(nl.IFLA_BRIDGE_VLAN_INFO, binary.NativeEndian.AppendUint16(b, id))
	}
	if last > v.ID {
		info(flags|nl.BRIDGE_VLAN_INFO_RANGE_BEGIN, v.ID)
		info(flags|nl.BRIDGE_VLAN_INFO_RANGE_END, last)
	} else {
		info(flags, v.ID)
	}
	r.add(spec)
	return c.do(ctx, r, nil)
}

// VLANs lists the VLANs of every bridge and bridge port by the index of its link. A kernel without VLAN filtering tells none.
func (c *Conn) VLANs(ctx context.Context) (map[int][]VLAN, error) {
	r := newRequest(unix.RTM_GETLINK, 0, ifinfomsg(unix.AF_BRIDGE, 0, &LinkAttrs{}))
	r.add(u32(unix.IFLA_EXT_MASK, nl.RTEXT_FILTER_BRVLAN))
	out := map[int][]VLAN{}
	err := c.dump(ctx, r, func() { clear(out) }, func(kind uint16, b []byte) {
		if kind != unix.RTM_NEWLINK || len(b) < unix.SizeofIfInfomsg {
			return
		}
		index := int(binary.NativeEndian.Uint32(b[4:]))
		for kind, v := range attrs(b[unix.SizeofIfInfomsg:]) {
			if kind != unix.IFLA_AF_SPEC {
				continue
			}
			for kind, v := range attrs(v) {
				if kind != nl.IFLA_BRIDGE_VLAN_INFO || len(v) < 4 {
					continue
				}
				flags := getU16(v)
				out[index] = append(out[index], VLAN{
					ID:       getU16(v[2:]),
					PVID:     flags&nl.BRIDGE_VLAN_INFO_PVID != 0,
					Untagged: flags&nl.BRIDGE_VLAN_INFO_UNTAGGED != 0,
				})
			}
		}
	})
	return out, err
}
