package ipvs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"time"
)

var errMalformed = errors.New("malformed netlink attribute")

// attributes walks through a list of netlink attributes. It never reads past b.
type attributes struct {
	b    []byte
	kind uint16
	data []byte
	err  error
}

func (a *attributes) next() bool {
	if len(a.b) < sizeAttr {
		if len(a.b) != 0 {
			a.err = errMalformed
		}
		return false
	}
	n := int(binary.NativeEndian.Uint16(a.b))
	if n < sizeAttr || n > len(a.b) {
		a.err = errMalformed
		return false
	}
	a.kind = binary.NativeEndian.Uint16(a.b[2:]) &^ (nested | 0x4000)
	a.data = a.b[sizeAttr:n]
	a.b = a.b[min((n+3)&^3, len(a.b)):]
	return true
}

// fixed returns the data when it has n bytes or more.
func (a *attributes) fixed(n int) []byte {
	if len(a.data) < n {
		if a.err == nil {
			a.err = fmt.Errorf("%w: type %d has %d bytes, not %d", errMalformed, a.kind, len(a.data), n)
		}
		return make([]byte, n)
	}
	return a.data[:n]
}

func (a *attributes) u8() uint8    { return a.fixed(1)[0] }
func (a *attributes) u16() uint16  { return binary.NativeEndian.Uint16(a.fixed(2)) }
func (a *attributes) u32() uint32  { return binary.NativeEndian.Uint32(a.fixed(4)) }
func (a *attributes) u64() uint64  { return binary.NativeEndian.Uint64(a.fixed(8)) }
func (a *attributes) port() uint16 { return binary.BigEndian.Uint16(a.fixed(2)) }

// text returns the bytes before the first zero.
func (a *attributes) text() []byte {
	if i := bytes.IndexByte(a.data, 0); i >= 0 {
		return a.data[:i]
	}
	return a.data
}

// address reads a union nf_inet_addr.
func (a *attributes) address(f Family) netip.Addr {
	if f == IPv4 {
		return netip.AddrFrom4([4]byte(a.fixed(4)))
	}
	return netip.AddrFrom16([16]byte(a.fixed(16)))
}

// find returns the data of the first attribute of a kind.
func find(b []byte, kind uint16) ([]byte, error) {
	a := attributes{b: b}
	for a.next() {
		if a.kind == kind {
			return a.data, nil
		}
	}
	if a.err != nil {
		return nil, a.err
	}
	return nil, fmt.Errorf("%w: no attribute %d", errMalformed, kind)
}

// decodeService reads the attributes inside attrService. The service is canonical; it has no destinations.
func decodeService(b []byte, s *Service, stats *Stats) error {
	*s = Service{}
	var family Family
	var address [16]byte
	var port uint16
	var timeout time.Duration
	var flags uint32
	var mask [4]byte
	var engine []byte
	a := attributes{b: b}
	for a.next() {
		switch a.kind {
		case svcFamily:
			family = Family(a.u16())
		case svcProtocol:
			s.Protocol = Protocol(a.u16())
		case svcAddress:
			copy(address[:], a.data)
		case svcPort:
			port = a.port()
		case svcMark:
			s.Mark = a.u32()
		case svcScheduler:
			s.Scheduler = internScheduler(a.text())
		case svcFlags:
			flags = a.u32()
		case svcTimeout:
			timeout = time.Duration(a.u32()) * time.Second
		case svcNetmask:
			mask = [4]byte(a.fixed(4))
		case svcEngine:
			engine = a.text()
		case svcStats:
			if stats != nil && *stats == (Stats{}) {
				a.err = errors.Join(a.err, decodeStats(a.data, stats))
			}
		case svcStats64:
			if stats != nil {
				a.err = errors.Join(a.err, decodeStats(a.data, stats))
			}
		}
	}
	if a.err != nil {
		return a.err
	}
	if family != IPv4 && family != IPv6 {
		return fmt.Errorf("%w: service of address family %d", errMalformed, family)
	}
	s.HashPort, s.Fallback, s.OnePacket = flags&flagSched2 != 0, flags&flagSched1 != 0, flags&flagOnePacket != 0
	if s.Mark != 0 {
		s.Protocol, s.Family = 0, family
	} else if family == IPv4 {
		s.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(address[:4])), port)
	} else {
		s.Address = netip.AddrPortFrom(netip.AddrFrom16(address), port)
	}
	if flags&flagPersistent != 0 && timeout != 0 {
		s.Persistence = Persistence{Timeout: timeout, Prefix: decodePrefix(family, mask), Engine: string(engine)}
	}
	return nil
}

// decodePrefix returns zero for the whole address, and -1 for an IPv4 mask that is no prefix.
func decodePrefix(f Family, mask [4]byte) int {
	n := int(min(binary.NativeEndian.Uint32(mask[:]), 128))
	if f == IPv4 {
		m := binary.BigEndian.Uint32(mask[:])
		if n = bits.LeadingZeros32(^m); n == 0 || m<<n != 0 {
			return -1
		}
	}
	if n == f.bits() {
		return 0
	}
	return n
}

var schedulers = func() map[string]Scheduler {
	m := map[string]Scheduler{}
	for _, s := range Schedulers() {
		m[string(s)] = s
	}
	return m
}()

// internScheduler does not allocate for the kernel's own.
func internScheduler(name []byte) Scheduler {
	if s, ok := schedulers[string(name)]; ok {
		return s
	}
	return Scheduler(name)
}

// destinationHeaders are the headers of the attributes with which every kernel since Linux 5.3 begins what it says of a destination, and where they
// are; its address family comes after counters.
var destinationHeaders = [...]struct{ at, length, kind uint16 }{
	{0, 20, dstAddress}, {20, 6, dstPort}, {28, 8, dstMethod}, {36, 8, dstWeight}, {44, 5, dstTunnelType}, {52, 6, dstTunnelPort}, {60, 6, dstTunnelFlags},
	{68, 8, dstUpper}, {76, 8, dstLower}, {84, 8, dstActive}, {92, 8, dstInactive}, {100, 8, dstPersistent}, {108, 6, dstFamily},
}

// destinationLayout has them as they lie in memory.
var destinationLayout = func() (layout [len(destinationHeaders)]uint32) {
	for i, h := range destinationHeaders {
		layout[i] = binary.NativeEndian.Uint32(binary.NativeEndian.AppendUint16(binary.NativeEndian.AppendUint16(nil, h.length), h.kind))
	}
	return layout
}()

const destinationSize = 116 // of these attributes

// decodeUsual is decodeDestination for what has the usual layout, and reports whether it has. Listings are made of little else.
func decodeUsual(b []byte, d *Destination) bool {
	if len(b) < destinationSize {
		return false
	}
	for i := range destinationHeaders {
		if binary.NativeEndian.Uint32(b[destinationHeaders[i].at:]) != destinationLayout[i] {
			return false
		}
	}
	for a := (attributes{b: b[destinationSize:]}); ; {
		if !a.next() {
			if a.err != nil {
				return false
			}
			break
		}
		if a.kind != dstStats && a.kind != dstStats64 {
			return false
		}
	}
	port := binary.BigEndian.Uint16(b[24:])
	switch Family(binary.NativeEndian.Uint16(b[112:])) {
	case IPv4:
		d.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port)
	case IPv6:
		d.Address = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[4:])), port)
	default:
		return false
	}
	d.Method = Method(binary.NativeEndian.Uint32(b[32:]) & 7)
	d.Weight, d.Upper, d.Lower = binary.NativeEndian.Uint32(b[40:]), binary.NativeEndian.Uint32(b[72:]), binary.NativeEndian.Uint32(b[80:])
	d.Tunnel = Tunnel{TunnelType(b[48]), binary.BigEndian.Uint16(b[56:]), TunnelChecksum(binary.NativeEndian.Uint16(b[64:]))}
	return true
}

// decodeDestination reads the attributes inside attrDest. Kernels before 3.18 do not say the family: it is the service's.
func decodeDestination(b []byte, service Family, d *Destination, stats *DestinationStats) error {
	if stats == nil && decodeUsual(b, d) {
		return nil
	}
	*d = Destination{}
	family := service
	var address [16]byte
	var port uint16
	a := attributes{b: b}
	for a.next() {
		switch a.kind {
		case dstAddress:
			copy(address[:], a.data)
		case dstPort:
			port = a.port()
		case dstFamily:
			family = Family(a.u16())
		case dstMethod:
			d.Method = Method(a.u32() & 7)
		case dstWeight:
			d.Weight = a.u32()
		case dstUpper:
			d.Upper = a.u32()
		case dstLower:
			d.Lower = a.u32()
		case dstTunnelType:
			d.Tunnel.Type = TunnelType(a.u8())
		case dstTunnelPort:
			d.Tunnel.Port = a.port()
		case dstTunnelFlags:
			d.Tunnel.Checksum = TunnelChecksum(a.u16())
		default:
			if stats != nil {
				a.destinationStats(stats)
			}
		}
	}
	if a.err != nil {
		return a.err
	}
	switch family {
	case IPv4:
		d.Address = netip.AddrPortFrom(netip.AddrFrom4([4]byte(address[:4])), port)
	case IPv6:
		d.Address = netip.AddrPortFrom(netip.AddrFrom16(address), port)
	default:
		return fmt.Errorf("%w: destination of address family %d", errMalformed, family)
	}
	if stats != nil {
		stats.Address = d.Address
	}
	return nil
}

func (a *attributes) destinationStats(s *DestinationStats) {
	switch a.kind {
	case dstActive:
		s.Active = a.u32()
	case dstInactive:
		s.Inactive = a.u32()
	case dstPersistent:
		s.Persistent = a.u32()
	case dstStats:
		if s.Stats == (Stats{}) {
			a.err = errors.Join(a.err, decodeStats(a.data, &s.Stats))
		}
	case dstStats64:
		a.err = errors.Join(a.err, decodeStats(a.data, &s.Stats))
	}
}

// decodeStats reads either form: in svcStats64 every counter has 64 bits, in svcStats (kernels before 4.1) only the bytes have.
func decodeStats(b []byte, s *Stats) error {
	fields := [...]*uint64{1: &s.Connections, 2: &s.InPackets, 3: &s.OutPackets, 4: &s.InBytes, 5: &s.OutBytes, 6: &s.ConnectionRate,
		7: &s.InPacketRate, 8: &s.OutPacketRate, 9: &s.InByteRate, 10: &s.OutByteRate}
	a := attributes{b: b}
	for a.next() {
		switch {
		case a.kind == 0 || int(a.kind) >= len(fields):
		case len(a.data) >= 8:
			*fields[a.kind] = a.u64()
		default:
			*fields[a.kind] = uint64(a.u32())
		}
	}
	return a.err
}
