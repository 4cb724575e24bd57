package nstest

import (
	"encoding/binary"
	"net/netip"
)

// EtherTypes (IEEE 802).
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIPv6 = 0x86dd
)

// decodeFrame decodes an Ethernet frame; it stops, without fault, where the frame ends.
func decodeFrame(frame []byte) Packet {
	p := Packet{Frame: frame}
	if len(frame) < 14 {
		return p
	}
	p.DstMAC, p.SrcMAC = frame[0:6:6], frame[6:12:12]
	p.Type = binary.BigEndian.Uint16(frame[12:])
	rest := frame[14:]
	if p.Type == TypeVLAN && len(rest) >= 4 {
		p.VLAN = binary.BigEndian.Uint16(rest) & 0xfff
		p.Type = binary.BigEndian.Uint16(rest[2:])
		rest = rest[4:]
	}
	p.Payload = rest
	switch p.Type {
	case TypeIPv4:
		p.decodeIPv4(rest)
	case TypeIPv6:
		p.decodeIPv6(rest)
	case TypeARP:
		if len(rest) >= 28 { // Ethernet and IPv4, RFC 826
			p.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[14:18])), 0)
			p.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest[24:28])), 0)
		}
	}
	return p
}

func (p *Packet) decodeIPv4(b []byte) {
	if len(b) < 20 {
		return
	}
	header, total := int(b[0]&0xf)*4, int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || total < header || len(b) < total {
		return
	}
	p.Protocol = b[9]
	p.Src = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[12:16])), 0)
	p.Dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[16:20])), 0)
	p.Payload = b[header:total]
	if binary.BigEndian.Uint16(b[6:])&0x1fff == 0 { // the first fragment, or the only one
		p.decodeTransport()
	}
}

func (p *Packet) decodeIPv6(b []byte) {
	if len(b) < 40 {
		return
	}
	p.Src = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[8:24])), 0)
	p.Dst = netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[24:40])), 0)
	p.Protocol = b[6]
	rest := b[40:]
	if total := int(binary.BigEndian.Uint16(b[4:])); total < len(rest) {
		rest = rest[:total]
	}
	// Hop-by-hop options come before MLD messages (RFC 8200, 4.3).
	if p.Protocol == 0 && len(rest) >= 8 {
		if n := 8 + 8*int(rest[1]); n <= len(rest) {
			p.Protocol, rest = rest[0], rest[n:]
		}
	}
	p.Payload = rest
	p.decodeTransport()
}

func (p *Packet) decodeTransport() {
	const tcp, udp = 6, 17
	b := p.Payload
	header := 8
	switch {
	case p.Protocol == tcp && len(b) >= 20:
		header = int(b[12]>>4) * 4
		p.Flags = b[13]
	case p.Protocol == udp && len(b) >= 8:
	default:
		return
	}
	p.Src = netip.AddrPortFrom(p.Src.Addr(), binary.BigEndian.Uint16(b))
	p.Dst = netip.AddrPortFrom(p.Dst.Addr(), binary.BigEndian.Uint16(b[2:]))
	if header <= len(b) {
		p.Payload = b[header:]
	}
}
