package policy

import (
	"encoding/binary"
	"net/netip"
	"strconv"
)

// parsePacket reads the beginning of an IP packet.
func parsePacket(b []byte) (Packet, bool) {
	if len(b) < 20 {
		return Packet{}, false
	}
	switch b[0] >> 4 {
	case 4:
		n := int(b[0]&0xf) * 4
		if n < 20 || len(b) < n {
			return Packet{}, false
		}
		p := Packet{Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20]))}
		p.transport(b[9], b[n:])
		return p, true
	case 6:
		if len(b) < 40 {
			return Packet{}, false
		}
		p := Packet{Src: netip.AddrFrom16([16]byte(b[8:24])), Dst: netip.AddrFrom16([16]byte(b[24:40]))}
		next, rest := b[6], b[40:]
		for extension(next) && len(rest) >= 8 {
			n := 8 * (int(rest[1]) + 1)
			if next == fragmentHeader {
				n = 8
			}
			if len(rest) < n {
				break
			}
			next, rest = rest[0], rest[n:]
		}
		p.transport(next, rest)
		return p, true
	}
	return Packet{}, false
}

const fragmentHeader = 44

// extension says that an IPv6 header of this number is followed by another (RFC 8200).
func extension(n byte) bool { return n == 0 || n == 43 || n == fragmentHeader || n == 60 }

func (p *Packet) transport(proto byte, b []byte) {
	p.Protocol = Protocol(strconv.Itoa(int(proto)))
	for _, known := range transports {
		if n, _ := known.number(); n == proto {
			p.Protocol = known
			if len(b) >= 4 {
				p.Port = binary.BigEndian.Uint16(b[2:])
			}
		}
	}
	switch proto {
	case 1:
		p.Protocol = "ICMP"
	case 58:
		p.Protocol = "ICMPv6"
	}
}
