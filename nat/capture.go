package nat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// Capture leads the TCP connections of the namespace, and its questions to
// name servers, to a proxy that listens inside of it. Nothing listens to what
// was captured while the proxy is gone: it is refused, and never goes on by
// itself. OriginalDst tells the proxy where a connection was to go.
//
// Only what begins is captured. Connections that run when a Capture comes go
// on beside the proxy (see Strict); those that were captured go on through it
// when the Capture changes, and also when it goes as long as the State keeps
// anything else: without a table the kernel stops translating.
//
// Connections to an address of the namespace itself that come from inside,
// 127.0.0.0/8 and ::1 among them, are never captured. What others send straight
// to one of the proxy's ports is refused by TCP reset or ICMP port unreachable.
//
// What goes out to link-local addresses of IPv6 cannot reach a proxy, as its
// socket is bound to a link: it is refused unless it is excepted (fe80::/10).
//
// Both IP families are captured alike, but for Ports4 and Ports6. A Capture comes before the
// forwards and redirects of the State. A translation that another table makes
// before it, at an earlier priority, is left as it is.
type Capture struct {
	// Outbound is the port that gets the TCP connections which the namespace
	// opens to others. They come to it at 127.0.0.1 and ::1. Zero leaves them
	// alone.
	Outbound uint16

	// Inbound is the port that gets the TCP connections which others open to
	// addresses of the namespace. They come to it at an address of the link
	// that they came in by, from the client's own address. Zero leaves them
	// alone.
	Inbound uint16

	// DNS is the port that gets UDP datagrams and TCP connections to port 53
	// of others, also when Outbound is zero. A UDP server must be bound to
	// 127.0.0.1 and ::1: bound to all addresses it answers from another one
	// than was asked. UDP clients that are known when this changes
	// begin anew.
	DNS uint16

	// Ports are the ports whose connections Inbound gets; closed ports that
	// are not among them refuse by themselves. AllPorts gives it every port's.
	// Change.Capture and Change.Release add and remove single ports.
	Ports    []uint16
	AllPorts bool

	// Ports4 and Ports6 are ports that are captured like Ports, for one IP
	// family only: a server may listen on IPv4 and not on IPv6. A port in both
	// is one of Ports.
	Ports4, Ports6 []uint16

	// Closed refuses connections that others open to ports which are neither
	// among Ports nor excepted, by TCP reset, as a port does that nobody listens
	// on: a server that begins to listen cannot be reached beside the proxy
	// before its port is one of Ports. It needs Inbound, and has nothing to do
	// with AllPorts.
	Closed bool

	// Strict also refuses TCP packets that would be captured if they began a
	// connection and belong to none that the kernel knows: connections from
	// before the Capture are reset, and those whose entry conntrack has lost.
	Strict bool

	// Except is what goes on untouched.
	Except Except
}

// Except says what a Capture leaves alone: what any one of its members names.
// With Outbound or DNS the proxy's own connections must be among it, by user,
// group or mark, or they would come back to it.
type Except struct {
	Users, Groups []uint32 // of the process that opened the socket, outbound
	// Marks are compared with the packet mark, outbound that of the socket
	// (SO_MARK).
	Marks []Mark

	From, To []netip.Prefix // source and destination, both ways

	// Inbound and Outbound are destination ports. Outbound also holds for DNS.
	Inbound, Outbound []Ports
}

// A Mark stands for the packet marks whose bits of Mask are those of Value.
type Mark struct {
	Value uint32
	Mask  uint32 // zero means all bits
}

func (m Mark) String() string { return fmt.Sprintf("0x%x/0x%x", m.Value, m.Mask) }

// Ports is a range of ports. Last zero means First alone.
type Ports struct{ First, Last uint16 }

func (p Ports) String() string {
	if p.Last <= p.First {
		return strconv.Itoa(int(p.First))
	}
	return fmt.Sprintf("%d-%d", p.First, p.Last)
}

func (p Ports) contains(port uint16) bool { return port >= p.First && port <= max(p.First, p.Last) }

func (c Capture) canonical() Capture {
	c.Ports, c.Ports4, c.Ports6 = byFamily(c.Ports, c.Ports4, c.Ports6)
	c.AllPorts = c.AllPorts && c.Inbound != 0
	c.Closed = c.Closed && c.Inbound != 0 && !c.AllPorts
	x := &c.Except
	x.Users, x.Groups = sortedSet(x.Users, cmp.Compare[uint32]), sortedSet(x.Groups, cmp.Compare[uint32])
	marks := slices.Clone(x.Marks)
	for i, m := range marks {
		if m.Mask == 0 {
			marks[i].Mask = ^uint32(0)
		}
	}
	x.Marks = sortedSet(marks, func(a, b Mark) int { return cmp.Or(cmp.Compare(a.Value, b.Value), cmp.Compare(a.Mask, b.Mask)) })
	same := func(p *netip.Prefix) *netip.Prefix { return p }
	x.From, x.To = widest(x.From, same), widest(x.To, same)
	x.Inbound, x.Outbound = joined(x.Inbound), joined(x.Outbound)
	return c
}

// byFamily returns ports sorted, with each in one list only.
func byFamily(both, only4, only6 []uint16) (b, four, six []uint16) {
	b, four, six = sortedSet(both, cmp.Compare[uint16]), sortedSet(only4, cmp.Compare[uint16]), sortedSet(only6, cmp.Compare[uint16])
	if len(four)+len(six) == 0 {
		return b, nil, nil
	}
	in := func(list []uint16) func(uint16) bool {
		return func(p uint16) bool { _, ok := slices.BinarySearch(list, p); return ok }
	}
	for _, p := range four {
		if in(six)(p) {
			b = append(b, p)
		}
	}
	b = sortedSet(b, cmp.Compare[uint16])
	without := func(list []uint16) []uint16 {
		if list = slices.DeleteFunc(list, in(b)); len(list) == 0 {
			return nil
		}
		return list
	}
	return b, without(four), without(six)
}

func sortedSet[T comparable](list []T, compare func(a, b T) int) []T {
	if len(list) == 0 {
		return nil
	}
	list = slices.Clone(list)
	slices.SortFunc(list, compare)
	return slices.Compact(list)
}

// joined returns the ranges sorted, with those that touch made one.
func joined(list []Ports) []Ports {
	list = sortedSet(list, func(a, b Ports) int { return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last)) })
	var out []Ports
	for _, p := range list {
		p.Last = max(p.First, p.Last)
		if n := len(out); n > 0 && int(p.First) <= int(out[n-1].Last)+1 {
			out[n-1].Last = max(out[n-1].Last, p.Last)
			continue
		}
		out = append(out, p)
	}
	return out
}

// item is one thing that a Capture says: what is compared, changed, printed
// and read back one by one.
type item struct {
	kind   itemKind
	n, m   uint32 // port and 4 or 6 or 0 for both, first and last port, user, group, or value and mask
	prefix netip.Prefix
}

type itemKind uint8

const (
	itemOutbound itemKind = iota + 1
	itemInbound           // m is 1 for all ports
	itemDNS
	itemStrict
	itemClosed
	itemPort
	itemUser
	itemGroup
	itemMark
	itemFrom
	itemTo
	itemPassInbound
	itemPassOutbound
)

func (a item) compare(b item) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.n, b.n), cmp.Compare(a.m, b.m), comparePrefix(a.prefix, b.prefix))
}

func (a item) String() string {
	switch a.kind {
	case itemOutbound:
		return fmt.Sprintf("capture outbound to port %d", a.n)
	case itemInbound:
		if a.m == 1 {
			return fmt.Sprintf("capture inbound of all ports to port %d", a.n)
		}
		return fmt.Sprintf("capture inbound to port %d", a.n)
	case itemDNS:
		return fmt.Sprintf("capture dns to port %d", a.n)
	case itemStrict:
		return "capture strictly"
	case itemClosed:
		return "capture closes other ports"
	case itemPort:
		if a.m != 0 {
			return fmt.Sprintf("capture port %d of IPv%d", a.n, a.m)
		}
		return fmt.Sprintf("capture port %d", a.n)
	case itemUser:
		return fmt.Sprintf("capture except user %d", a.n)
	case itemGroup:
		return fmt.Sprintf("capture except group %d", a.n)
	case itemMark:
		return "capture except mark " + Mark{a.n, a.m}.String()
	case itemFrom:
		return "capture except from " + a.prefix.String()
	case itemTo:
		return "capture except to " + a.prefix.String()
	case itemPassInbound:
		return "capture except inbound port " + a.ports().String()
	case itemPassOutbound:
		return "capture except outbound port " + a.ports().String()
	}
	return fmt.Sprintf("capture item(%d)", uint8(a.kind))
}

func (a item) ports() Ports { return Ports{uint16(a.n), uint16(a.m)} }

// items lists what c says, which must be canonical.
func (c Capture) items() []item {
	var list []item
	add := func(kind itemKind, n, m uint32) { list = append(list, item{kind: kind, n: n, m: m}) }
	for kind, port := range map[itemKind]uint16{itemOutbound: c.Outbound, itemInbound: c.Inbound, itemDNS: c.DNS} {
		all := uint32(0)
		if kind == itemInbound && c.AllPorts {
			all = 1
		}
		if port != 0 {
			add(kind, uint32(port), all)
		}
	}
	if c.Strict {
		add(itemStrict, 0, 0)
	}
	if c.Closed {
		add(itemClosed, 0, 0)
	}
	for family, ports := range map[uint32][]uint16{0: c.Ports, 4: c.Ports4, 6: c.Ports6} {
		for _, p := range ports {
			add(itemPort, uint32(p), family)
		}
	}
	for _, u := range c.Except.Users {
		add(itemUser, u, 0)
	}
	for _, g := range c.Except.Groups {
		add(itemGroup, g, 0)
	}
	for _, m := range c.Except.Marks {
		add(itemMark, m.Value, m.Mask)
	}
	for _, p := range c.Except.From {
		list = append(list, item{kind: itemFrom, prefix: p})
	}
	for _, p := range c.Except.To {
		list = append(list, item{kind: itemTo, prefix: p})
	}
	for _, p := range c.Except.Inbound {
		add(itemPassInbound, uint32(p.First), uint32(p.Last))
	}
	for _, p := range c.Except.Outbound {
		add(itemPassOutbound, uint32(p.First), uint32(p.Last))
	}
	slices.SortFunc(list, item.compare)
	return list
}

// captureOf is the inverse of items.
func captureOf(list []item) Capture {
	var c Capture
	for _, a := range list {
		switch a.kind {
		case itemOutbound:
			c.Outbound = uint16(a.n)
		case itemInbound:
			c.Inbound, c.AllPorts = uint16(a.n), a.m == 1
		case itemDNS:
			c.DNS = uint16(a.n)
		case itemStrict:
			c.Strict = true
		case itemClosed:
			c.Closed = true
		case itemPort:
			to := map[uint32]*[]uint16{0: &c.Ports, 4: &c.Ports4, 6: &c.Ports6}[a.m]
			*to = append(*to, uint16(a.n))
		case itemUser:
			c.Except.Users = append(c.Except.Users, a.n)
		case itemGroup:
			c.Except.Groups = append(c.Except.Groups, a.n)
		case itemMark:
			c.Except.Marks = append(c.Except.Marks, Mark{a.n, a.m})
		case itemFrom:
			c.Except.From = append(c.Except.From, a.prefix)
		case itemTo:
			c.Except.To = append(c.Except.To, a.prefix)
		case itemPassInbound:
			c.Except.Inbound = append(c.Except.Inbound, a.ports())
		case itemPassOutbound:
			c.Except.Outbound = append(c.Except.Outbound, a.ports())
		}
	}
	return c
}
