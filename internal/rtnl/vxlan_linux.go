package rtnl

import (
	"encoding/binary"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// VXLANAttrs are the settings of a VXLAN device (IFLA_VXLAN_*). Nil leaves a setting alone; ID is always sent when a device is made.
type VXLANAttrs struct {
	ID       uint32 // VNI, 24 bits
	Link     *uint32
	Local    netip.Addr
	Group    netip.Addr
	Port     *uint16 // UDP destination port
	PortLow  *uint16 // with PortHigh: range of UDP source ports
	PortHigh *uint16
	TTL      *uint8
	TOS      *uint8
	DF       *uint8
	Learning *bool
	Ageing   *uint32
	L2Miss   *bool
	L3Miss   *bool

	UDPCsum   *bool // checksum on IPv4 underlays
	Csum6TxNo *bool // no checksum sent on IPv6 underlays
	Csum6RxNo *bool // packets without checksum taken on IPv6 underlays
	GBP       bool  // group policy; can only be set when the device is made
}

func (a *VXLANAttrs) encode(to *nl.RtAttr) {
	to.AddChild(u32(nl.IFLA_VXLAN_ID, a.ID))
	putU32(to, nl.IFLA_VXLAN_LINK, a.Link)
	if a.Local.IsValid() {
		to.AddChild(ip(byFamily(a.Local, nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6), a.Local))
	}
	if a.Group.IsValid() {
		to.AddChild(ip(byFamily(a.Group, nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6), a.Group))
	}
	if a.Port != nil {
		to.AddChild(be16(nl.IFLA_VXLAN_PORT, *a.Port))
	}
	if a.PortLow != nil && a.PortHigh != nil {
		b := make([]byte, 4)
		binary.BigEndian.PutUint16(b, *a.PortLow)
		binary.BigEndian.PutUint16(b[2:], *a.PortHigh)
		to.AddRtAttr(nl.IFLA_VXLAN_PORT_RANGE, b)
	}
	putU8(to, nl.IFLA_VXLAN_TTL, a.TTL)
	putU8(to, nl.IFLA_VXLAN_TOS, a.TOS)
	putU8(to, unix.IFLA_VXLAN_DF, a.DF)
	putFlag(to, nl.IFLA_VXLAN_LEARNING, a.Learning)
	putU32(to, nl.IFLA_VXLAN_AGEING, a.Ageing)
	putFlag(to, nl.IFLA_VXLAN_L2MISS, a.L2Miss)
	putFlag(to, nl.IFLA_VXLAN_L3MISS, a.L3Miss)
	putFlag(to, nl.IFLA_VXLAN_UDP_CSUM, a.UDPCsum)
	putFlag(to, nl.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, a.Csum6TxNo)
	putFlag(to, nl.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, a.Csum6RxNo)
	if a.GBP {
		to.AddRtAttr(nl.IFLA_VXLAN_GBP, nil)
	}
}

func parseVXLAN(b []byte) *VXLANAttrs {
	a := &VXLANAttrs{}
	for kind, v := range attrs(b) {
		switch kind {
		case nl.IFLA_VXLAN_ID:
			a.ID = getU32(v)
		case nl.IFLA_VXLAN_LINK:
			a.Link = ptr(getU32(v))
		case nl.IFLA_VXLAN_LOCAL, nl.IFLA_VXLAN_LOCAL6:
			a.Local = getAddr(v)
		case nl.IFLA_VXLAN_GROUP, nl.IFLA_VXLAN_GROUP6:
			a.Group = getAddr(v)
		case nl.IFLA_VXLAN_PORT:
			a.Port = ptr(getBE16(v))
		case nl.IFLA_VXLAN_PORT_RANGE:
			if len(v) == 4 {
				a.PortLow, a.PortHigh = ptr(getBE16(v)), ptr(getBE16(v[2:]))
			}
		case nl.IFLA_VXLAN_TTL:
			a.TTL = ptr(getU8(v))
		case nl.IFLA_VXLAN_TOS:
			a.TOS = ptr(getU8(v))
		case unix.IFLA_VXLAN_DF:
			a.DF = ptr(getU8(v))
		case nl.IFLA_VXLAN_LEARNING:
			a.Learning = ptr(getU8(v) != 0)
		case nl.IFLA_VXLAN_AGEING:
			a.Ageing = ptr(getU32(v))
		case nl.IFLA_VXLAN_L2MISS:
			a.L2Miss = ptr(getU8(v) != 0)
		case nl.IFLA_VXLAN_L3MISS:
			a.L3Miss = ptr(getU8(v) != 0)
		case nl.IFLA_VXLAN_UDP_CSUM:
			a.UDPCsum = ptr(getU8(v) != 0)
		case nl.IFLA_VXLAN_UDP_ZERO_CSUM6_TX:
			a.Csum6TxNo = ptr(getU8(v) != 0)
		case nl.IFLA_VXLAN_UDP_ZERO_CSUM6_RX:
			a.Csum6RxNo = ptr(getU8(v) != 0)
		case nl.IFLA_VXLAN_GBP:
			a.GBP = true
		}
	}
	return a
}

func byFamily(a netip.Addr, v4, v6 int) int {
	if a.Is4() {
		return v4
	}
	return v6
}
