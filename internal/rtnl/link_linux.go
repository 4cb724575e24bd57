package rtnl

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// MAC is an Ethernet address. The zero MAC means none.
type MAC [6]byte

// String prints the address as 02:00:5e:10:00:01.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsZero reports whether no address is set.
func (m MAC) IsZero() bool { return m == MAC{} }

// extSkipStats asks for links without their counters: RTEXT_FILTER_SKIP_STATS, include/uapi/linux/rtnetlink.h.
const extSkipStats = 1 << 3

// Link is a network interface as the kernel shows it.
type Link struct {
	Index     int
	Name      string
	Kind      string // IFLA_INFO_KIND: veth, bridge, vxlan...; empty for a physical or loopback device
	Alias     string
	MTU       int
	MAC       MAC
	Flags     uint32 // IFF_*
	OperState uint8  // IF_OPER_* (RFC 2863): 6 is up
	Master    int    // index of the bridge or other upper device, 0 for none
	Peer      int    // IFLA_LINK: index of the veth peer or underlay, in the namespace PeerNSID
	PeerNSID  int    // namespace id of Peer as seen from here, -1 for this same namespace
	Group     uint32
	TxQueue   uint32
	Promisc   uint32 // how often promiscuous mode is asked for (IFLA_PROMISCUITY)

	Bridge *BridgeAttrs // set on bridges
	Port   *PortAttrs   // set on ports of a bridge
	VXLAN  *VXLANAttrs  // set on VXLAN devices
}

// Up reports whether the link is administratively up.
func (l *Link) Up() bool { return l.Flags&unix.IFF_UP != 0 }

// LinkAttrs are what is set on a link. Zero and nil fields are left as they are, or to the kernel's default on a new link.
type LinkAttrs struct {
	Name     string
	Alias    *string // ignored by the kernel when a link is made: set it afterwards
	MTU      int
	MAC      MAC
	Group    *uint32
	TxQueue  *uint32
	Master   *int // index; 0 takes the link off its bridge
	Up       *bool
	Promisc  *bool
	NetNS    int // file descriptor of the namespace to make the link in, or to move it to; 0 means here
	PeerNSID *int
	Underlay int // IFLA_LINK: the lower device

	// AddrGenMode is IN6_ADDR_GEN_MODE_*: 1 means no link-local address of the kernel's own. For an existing link only: the kernel
	// has no IPv6 settings to change while it makes a link.
	AddrGenMode *uint8

	Veth   *LinkAttrs // attributes of the peer of a new veth; Up there is refused by the kernel (ENOTCONN): set it afterwards
	Bridge *BridgeAttrs
	Port   *PortAttrs // for an existing link that is a bridge port
	VXLAN  *VXLANAttrs
}

// AddLink makes a link of the given kind. It fails with fs.ErrExist when the name is taken.
func (c *Conn) AddLink(ctx context.Context, kind string, a LinkAttrs) error {
	r := newRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, ifinfomsg(unix.AF_UNSPEC, 0, &a))
	for _, x := range linkAttrs(&a) {
		r.add(x)
	}
	info := nested(unix.IFLA_LINKINFO)
	info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
	data := nested(unix.IFLA_INFO_DATA)
	used := true
	switch {
	case a.Veth != nil:
		peer := nl.NewRtAttr(nl.VETH_INFO_PEER|unix.NLA_F_NESTED, nil)
		peer.AddChild(raw(ifinfomsg(unix.AF_UNSPEC, 0, a.Veth)))
		for _, x := range linkAttrs(a.Veth) {
			peer.AddChild(x)
		}
		data.AddChild(peer)
	case a.Bridge != nil:
		a.Bridge.encode(data)
	case a.VXLAN != nil:
		a.VXLAN.encode(data)
	default:
		used = false
	}
	if used {
		info.AddChild(data)
	}
	r.add(info)
	return c.do(ctx, r, nil)
}

// SetLink changes the link with the given index in one request.
func (c *Conn) SetLink(ctx context.Context, index int, a LinkAttrs) error {
	r := newRequest(unix.RTM_NEWLINK, 0, ifinfomsg(unix.AF_UNSPEC, index, &a))
	for _, x := range linkAttrs(&a) {
		r.add(x)
	}
	switch {
	case a.Port != nil:
		info := nested(unix.IFLA_LINKINFO)
		info.AddRtAttr(nl.IFLA_INFO_SLAVE_KIND, nl.NonZeroTerminated("bridge"))
		data := nested(nl.IFLA_INFO_SLAVE_DATA)
		a.Port.encode(data)
		info.AddChild(data)
		r.add(info)
	case a.Bridge != nil, a.VXLAN != nil:
		info := nested(unix.IFLA_LINKINFO)
		data := nested(unix.IFLA_INFO_DATA)
		kind := "bridge"
		if a.VXLAN != nil {
			kind = "vxlan"
			a.VXLAN.encode(data)
		} else {
			a.Bridge.encode(data)
		}
		info.AddRtAttr(unix.IFLA_INFO_KIND, nl.NonZeroTerminated(kind))
		info.AddChild(data)
		r.add(info)
	}
	return c.do(ctx, r, nil)
}

// DelLink deletes the link with the given index; deleting one end of a veth pair deletes both.
func (c *Conn) DelLink(ctx context.Context, index int) error {
	return c.do(ctx, newRequest(unix.RTM_DELLINK, 0, ifinfomsg(unix.AF_UNSPEC, index, &LinkAttrs{})), nil)
}

// DelLinkGroup deletes every link of the group in one request; that waits for the kernel's RCU grace periods once instead of once
// a link. A group without links is fs.ErrNotExist. Group 0 is every ordinary link, so it is refused.
func (c *Conn) DelLinkGroup(ctx context.Context, group uint32) error {
	if group == 0 {
		return fmt.Errorf("link group 0 is the default group of every link: %w", unix.EINVAL)
	}
	r := newRequest(unix.RTM_DELLINK, 0, ifinfomsg(unix.AF_UNSPEC, 0, &LinkAttrs{}))
	r.add(u32(unix.IFLA_GROUP, group))
	return c.do(ctx, r, nil)
}

// Links lists every link of the namespace in the order of their indexes.
func (c *Conn) Links(ctx context.Context) ([]Link, error) {
	r := newRequest(unix.RTM_GETLINK, 0, ifinfomsg(unix.AF_UNSPEC, 0, &LinkAttrs{}))
	r.add(u32(unix.IFLA_EXT_MASK, extSkipStats))
	var links []Link
	err := c.dump(ctx, r, func() { links = links[:0] }, func(kind uint16, b []byte) {
		if l, ok := parseLink(b); ok && kind == unix.RTM_NEWLINK {
			links = append(links, l)
		}
	})
	return links, err
}

// Bridges lists the bridges of the namespace, without what else there is.
func (c *Conn) Bridges(ctx context.Context) ([]Link, error) {
	r := newRequest(unix.RTM_GETLINK, 0, ifinfomsg(unix.AF_UNSPEC, 0, &LinkAttrs{}))
	r.add(u32(unix.IFLA_EXT_MASK, extSkipStats))
	info := nested(unix.IFLA_LINKINFO)
	info.AddChild(text(unix.IFLA_INFO_KIND, "bridge"))
	r.add(info)
	var links []Link
	err := c.dump(ctx, r, func() { links = links[:0] }, func(kind uint16, b []byte) {
		// A kernel that has made no bridge yet ignores the filter.
		if l, ok := parseLink(b); ok && kind == unix.RTM_NEWLINK && l.Kind == "bridge" {
			links = append(links, l)
		}
	})
	return links, err
}

// LinkByName returns the link of that name, or an error that is fs.ErrNotExist.
func (c *Conn) LinkByName(ctx context.Context, name string) (Link, error) {
	r := newRequest(unix.RTM_GETLINK, 0, ifinfomsg(unix.AF_UNSPEC, 0, &LinkAttrs{}))
	r.add(text(unix.IFLA_IFNAME, name))
	return c.link(ctx, r)
}

// LinkByIndex returns the link with that index, or an error that is fs.ErrNotExist.
func (c *Conn) LinkByIndex(ctx context.Context, index int) (Link, error) {
	return c.link(ctx, newRequest(unix.RTM_GETLINK, 0, ifinfomsg(unix.AF_UNSPEC, index, &LinkAttrs{})))
}

func (c *Conn) link(ctx context.Context, r request) (link Link, err error) {
	r.add(u32(unix.IFLA_EXT_MASK, extSkipStats))
	found := false
	err = c.get(ctx, r, func(kind uint16, b []byte) {
		if kind == unix.RTM_NEWLINK {
			link, found = parseLink(b)
		}
	})
	if err == nil && !found {
		err = &Error{Errno: unix.ENODEV}
	}
	return link, err
}

func ifinfomsg(family uint8, index int, a *LinkAttrs) []byte {
	b := make([]byte, unix.SizeofIfInfomsg)
	b[0] = family
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	var flags, change uint32
	set := func(v *bool, bit uint32) {
		if v == nil {
			return
		}
		change |= bit
		if *v {
			flags |= bit
		}
	}
	set(a.Up, unix.IFF_UP)
	set(a.Promisc, unix.IFF_PROMISC)
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], change)
	return b
}

func linkAttrs(a *LinkAttrs) []*nl.RtAttr {
	var out []*nl.RtAttr
	if a.Name != "" {
		out = append(out, text(unix.IFLA_IFNAME, a.Name))
	}
	if a.Alias != nil {
		out = append(out, nl.NewRtAttr(unix.IFLA_IFALIAS, []byte(*a.Alias)))
	}
	if a.MTU > 0 {
		out = append(out, u32(unix.IFLA_MTU, uint32(a.MTU)))
	}
	if !a.MAC.IsZero() {
		out = append(out, nl.NewRtAttr(unix.IFLA_ADDRESS, a.MAC[:]))
	}
	if a.Group != nil {
		out = append(out, u32(unix.IFLA_GROUP, *a.Group))
	}
	if a.TxQueue != nil {
		out = append(out, u32(unix.IFLA_TXQLEN, *a.TxQueue))
	}
	if a.Master != nil {
		out = append(out, u32(unix.IFLA_MASTER, uint32(*a.Master)))
	}
	if a.NetNS > 0 {
		out = append(out, u32(unix.IFLA_NET_NS_FD, uint32(a.NetNS)))
	}
	if a.PeerNSID != nil {
		out = append(out, u32(unix.IFLA_LINK_NETNSID, uint32(*a.PeerNSID)))
	}
	if a.Underlay != 0 {
		out = append(out, u32(unix.IFLA_LINK, uint32(a.Underlay)))
	}
	if a.AddrGenMode != nil {
		spec, inet6 := nested(unix.IFLA_AF_SPEC), nested(unix.AF_INET6)
		inet6.AddChild(u8(unix.IFLA_INET6_ADDR_GEN_MODE, *a.AddrGenMode))
		spec.AddChild(inet6)
		out = append(out, spec)
	}
	return out
}

func parseLink(b []byte) (Link, bool) {
	if len(b) < unix.SizeofIfInfomsg {
		return Link{}, false
	}
	l := Link{Index: int(int32(binary.NativeEndian.Uint32(b[4:]))), Flags: binary.NativeEndian.Uint32(b[8:]), PeerNSID: -1}
	for kind, v := range attrs(b[unix.SizeofIfInfomsg:]) {
		switch kind {
		case unix.IFLA_IFNAME:
			l.Name = cstring(v)
		case unix.IFLA_IFALIAS:
			l.Alias = cstring(v)
		case unix.IFLA_MTU:
			l.MTU = int(getU32(v))
		case unix.IFLA_ADDRESS:
			l.MAC = getMAC(v)
		case unix.IFLA_OPERSTATE:
			l.OperState = getU8(v)
		case unix.IFLA_MASTER:
			l.Master = int(getU32(v))
		case unix.IFLA_LINK:
			l.Peer = int(getU32(v))
		case unix.IFLA_LINK_NETNSID:
			l.PeerNSID = int(int32(getU32(v)))
		case unix.IFLA_GROUP:
			l.Group = getU32(v)
		case unix.IFLA_TXQLEN:
			l.TxQueue = getU32(v)
		case unix.IFLA_PROMISCUITY:
			l.Promisc = getU32(v)
		case unix.IFLA_LINKINFO:
			parseLinkInfo(&l, v)
		}
	}
	return l, true
}

func parseLinkInfo(l *Link, b []byte) {
	var data, port []byte
	var portKind string
	for kind, v := range attrs(b) {
		switch kind {
		case unix.IFLA_INFO_KIND:
			l.Kind = cstring(v)
		case unix.IFLA_INFO_DATA:
			data = v
		case nl.IFLA_INFO_SLAVE_KIND:
			portKind = cstring(v)
		case nl.IFLA_INFO_SLAVE_DATA:
			port = v
		}
	}
	switch l.Kind {
	case "bridge":
		l.Bridge = parseBridge(data)
	case "vxlan":
		l.VXLAN = parseVXLAN(data)
	}
	if portKind == "bridge" {
		l.Port = parsePort(port)
	}
}
