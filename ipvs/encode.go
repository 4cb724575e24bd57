package ipvs

import (
	"encoding/binary"
	"net/netip"
	"time"
)

// The generic netlink protocol of linux/ip_vs.h.
const (
	familyName    = "IPVS"
	familyVersion = 1

	cmdNewService = 1
	cmdSetService = 2
	cmdDelService = 3
	cmdGetService = 4
	cmdNewDest    = 5
	cmdSetDest    = 6
	cmdDelDest    = 7
	cmdGetDest    = 8
	cmdNewDaemon  = 9
	cmdDelDaemon  = 10
	cmdGetDaemon  = 11
	cmdSetConfig  = 12
	cmdGetConfig  = 13
	cmdSetInfo    = 14
	cmdGetInfo    = 15
	cmdZero       = 16
	cmdFlush      = 17

	attrService       = 1
	attrDest          = 2
	attrDaemon        = 3
	attrTimeoutTCP    = 4
	attrTimeoutTCPFin = 5
	attrTimeoutUDP    = 6

	svcFamily    = 1
	svcProtocol  = 2
	svcAddress   = 3
	svcPort      = 4
	svcMark      = 5
	svcScheduler = 6
	svcFlags     = 7
	svcTimeout   = 8
	svcNetmask   = 9
	svcStats     = 10
	svcEngine    = 11
	svcStats64   = 12

	dstAddress     = 1
	dstPort        = 2
	dstMethod      = 3
	dstWeight      = 4
	dstUpper       = 5
	dstLower       = 6
	dstActive      = 7
	dstInactive    = 8
	dstPersistent  = 9
	dstStats       = 10
	dstFamily      = 11
	dstStats64     = 12
	dstTunnelType  = 13
	dstTunnelPort  = 14
	dstTunnelFlags = 15
)

// Flags of a service (IP_VS_SVC_F_*). The kernel sets hashed on every service that it shows.
const (
	flagPersistent = 0x01
	flagHashed     = 0x02
	flagOnePacket  = 0x04
	flagSched1     = 0x08 // sh-fallback, mh-fallback
	flagSched2     = 0x10 // sh-port, mh-port
)

// Header sizes and flags of linux/netlink.h and linux/genetlink.h.
const (
	sizeNetlink = 16
	sizeGeneric = 4
	sizeAttr    = 4

	flagRequest = 0x1
	flagAck     = 0x4
	flagDump    = 0x300
	nested      = 0x8000
)

// encoder appends messages to one datagram.
type encoder struct {
	b      []byte
	start  int // of the message under way
	family uint16
}

func (e *encoder) reset() { e.b = e.b[:0] }

// begin starts a message of the IPVS family; end must follow.
func (e *encoder) begin(cmd uint8, flags uint16, seq uint32) {
	e.start = len(e.b)
	e.b = append(e.b, 0, 0, 0, 0)
	e.b = binary.NativeEndian.AppendUint16(e.b, e.family)
	e.b = binary.NativeEndian.AppendUint16(e.b, flags|flagRequest)
	e.b = binary.NativeEndian.AppendUint32(e.b, seq)
	e.b = append(e.b, 0, 0, 0, 0, cmd, familyVersion, 0, 0)
}

func (e *encoder) end() {
	binary.NativeEndian.PutUint32(e.b[e.start:], uint32(len(e.b)-e.start))
}

// acknowledge asks for an answer to the last message that was ended.
func (e *encoder) acknowledge() {
	flags := e.b[e.start+6:]
	binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|flagAck)
}

func (e *encoder) header(kind uint16, size int) {
	e.b = binary.NativeEndian.AppendUint16(e.b, uint16(sizeAttr+size))
	e.b = binary.NativeEndian.AppendUint16(e.b, kind)
}

// open starts a nested attribute and returns what close needs.
func (e *encoder) open(kind uint16) int {
	e.header(kind|nested, 0)
	return len(e.b) - sizeAttr
}

func (e *encoder) close(at int) {
	binary.NativeEndian.PutUint16(e.b[at:], uint16(len(e.b)-at))
}

func (e *encoder) u8(kind uint16, v uint8) {
	e.header(kind, 1)
	e.b = append(e.b, v, 0, 0, 0)
}

func (e *encoder) u16(kind, v uint16) {
	e.header(kind, 2)
	e.b = append(binary.NativeEndian.AppendUint16(e.b, v), 0, 0)
}

// port is in network byte order.
func (e *encoder) port(kind, v uint16) {
	e.header(kind, 2)
	e.b = append(e.b, byte(v>>8), byte(v), 0, 0)
}

func (e *encoder) u32(kind uint16, v uint32) {
	e.header(kind, 4)
	e.b = binary.NativeEndian.AppendUint32(e.b, v)
}

func (e *encoder) text(kind uint16, s string) {
	e.header(kind, len(s)+1)
	e.b = append(append(e.b, s...), "\x00\x00\x00\x00"[:4-len(s)%4]...)
}

// address is a union nf_inet_addr: 16 bytes, IPv4 in the first four.
func (e *encoder) address(kind uint16, a netip.Addr) {
	e.header(kind, 16)
	if a.Is4() {
		b := a.As4()
		e.b = append(append(e.b, b[:]...), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		return
	}
	b := a.As16()
	e.b = append(e.b, b[:]...)
}

func (e *encoder) key(k Key) {
	e.u16(svcFamily, uint16(k.family()))
	if k.Mark != 0 {
		e.u32(svcMark, k.Mark)
		return
	}
	e.u16(svcProtocol, uint16(k.Protocol))
	e.address(svcAddress, k.Address.Addr())
	e.port(svcPort, k.Address.Port())
}

// serviceKey adds the attribute that only names a service.
func (e *encoder) serviceKey(k Key) {
	at := e.open(attrService)
	e.key(k)
	e.close(at)
}

// service adds the attribute that describes a canonical service fully.
func (e *encoder) service(s *Service) {
	at := e.open(attrService)
	e.key(s.Key)
	e.text(svcScheduler, string(s.Scheduler))
	e.header(svcFlags, 8)
	e.b = binary.NativeEndian.AppendUint32(e.b, s.flags())
	e.b = binary.NativeEndian.AppendUint32(e.b, 1<<32-1) // the mask: all flags are meant
	e.u32(svcTimeout, uint32(s.Persistence.Timeout/time.Second))
	e.netmask(s)
	if s.Persistence.Engine != "" {
		e.text(svcEngine, s.Persistence.Engine)
	}
	e.close(at)
}

func (s *Service) flags() uint32 {
	var flags uint32
	if s.Persistence.Timeout != 0 {
		flags |= flagPersistent
	}
	if s.OnePacket {
		flags |= flagOnePacket
	}
	if s.Fallback {
		flags |= flagSched1
	}
	if s.HashPort {
		flags |= flagSched2
	}
	return flags
}

// netmask is, for IPv4, a mask in network byte order, and for IPv6 a prefix length in host order.
func (e *encoder) netmask(s *Service) {
	bits := s.Persistence.Prefix
	if bits == 0 {
		bits = s.family().bits()
	}
	if s.family() == IPv6 {
		e.u32(svcNetmask, uint32(bits))
		return
	}
	e.header(svcNetmask, 4)
	e.b = binary.BigEndian.AppendUint32(e.b, ^uint32(0)<<(32-bits))
}

// destinationKey adds the attribute that only names a destination.
func (e *encoder) destinationKey(d *Destination) {
	at := e.open(attrDest)
	e.address(dstAddress, d.Address.Addr())
	e.port(dstPort, d.Address.Port())
	e.u16(dstFamily, uint16(addressFamily(d.Address.Addr())))
	e.close(at)
}

// destination adds the attribute that describes a destination fully.
func (e *encoder) destination(d *Destination) {
	at := e.open(attrDest)
	e.address(dstAddress, d.Address.Addr())
	e.port(dstPort, d.Address.Port())
	e.u16(dstFamily, uint16(addressFamily(d.Address.Addr())))
	e.u32(dstMethod, uint32(d.Method))
	e.u32(dstWeight, d.Weight)
	e.u32(dstUpper, d.Upper)
	e.u32(dstLower, d.Lower)
	if d.Tunnel != (Tunnel{}) {
		e.u8(dstTunnelType, uint8(d.Tunnel.Type))
		e.port(dstTunnelPort, d.Tunnel.Port)
		e.u16(dstTunnelFlags, uint16(d.Tunnel.Checksum))
	}
	e.close(at)
}

func addressFamily(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}
