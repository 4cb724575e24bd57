package ipvs

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Format prints services as ipvsadm -Ln does, in its order: with their settings, and each destination with its connections. Those come from stats, which may
// lack some or all; they count as none then.
func Format(info Info, s State, stats []ServiceStats) string {
	var b strings.Builder
	fmt.Fprintf(&b, "IP Virtual Server version %s (size=%d)\n", info.Version, info.TableSize)
	b.WriteString("Prot LocalAddress:Port Scheduler Flags\n  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n")
	counts := map[Key]map[netip.AddrPort]DestinationStats{}
	for _, v := range stats {
		counts[v.Key] = map[netip.AddrPort]DestinationStats{}
		for _, d := range v.Destinations {
			counts[v.Key][d.Address] = d
		}
	}
	services := s.Canonical().Services
	slices.SortStableFunc(services, func(a, b Service) int { return asIPVSADM(a.Key, b.Key) })
	for i := range services {
		v := &services[i]
		b.WriteString(v.line() + "\n")
		slices.SortStableFunc(v.Destinations, func(a, b Destination) int { return addressesAsIPVSADM(a.Address, b.Address) })
		for _, d := range v.Destinations {
			n := counts[v.Key][d.Address]
			fmt.Fprintf(&b, "  -> %-28s %-7s %-6d %-10d %-10d\n", d.Address, forwards[d.Method], d.Weight, n.Active, n.Inactive)
		}
	}
	return b.String()
}

// asIPVSADM is ipvsadm's order. It takes differences for signed: 192.0.2.1 comes before 10.0.0.1.
func asIPVSADM(a, b Key) int {
	return cmp.Or(int(int32(a.Mark-b.Mark)), int(a.family())-int(b.family()), int(a.Protocol)-int(b.Protocol), addressesAsIPVSADM(a.Address, b.Address))
}

func addressesAsIPVSADM(a, b netip.AddrPort) int {
	x, y := words(a.Addr()), words(b.Addr())
	for i := range x {
		if d := int32(x[i] - y[i]); d != 0 {
			return int(d)
		}
	}
	return int(a.Port()) - int(b.Port())
}

// words are those of a union nf_inet_addr.
func words(a netip.Addr) (w [4]uint32) {
	if a.Is4() {
		b := a.As4()
		return [4]uint32{binary.BigEndian.Uint32(b[:])}
	}
	b := a.As16()
	for i := range w {
		w[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	return w
}

var forwards = map[Method]string{Masquerade: "Masq", Local: "Local", Tunneling: "Tunnel", Direct: "Route", Bypass: "Bypass"}

// line is the service in ipvsadm's form.
func (s *Service) line() string {
	name := fmt.Sprintf("%-4s %s", strings.ToUpper(s.Protocol.String()), s.Address)
	if s.Mark != 0 {
		name = fmt.Sprintf("FWM  %d", int32(s.Mark))
		if s.Family == IPv6 {
			name += " IPv6"
		}
	}
	name += " " + s.Scheduler.String()
	fallback, port := "flag-1", "flag-2" // whoever set them
	if s.Scheduler.hashes() {
		fallback, port = s.Scheduler.String()+"-fallback", s.Scheduler.String()+"-port"
	}
	var flags []string
	if s.Fallback {
		flags = append(flags, fallback)
	}
	if s.HashPort {
		flags = append(flags, port)
	}
	if flags != nil {
		name += " (" + strings.Join(flags, ",") + ")"
	}
	if p := s.Persistence; p.Timeout != 0 {
		name += fmt.Sprintf(" persistent %d", p.Timeout/time.Second)
		switch {
		case p.Prefix == 0:
		case s.family() == IPv6:
			name += fmt.Sprintf(" mask %d", p.Prefix)
		default:
			mask := ^uint32(0) << (32 - min(p.Prefix, 32)) // 0.0.0.0 when it is no prefix
			name += " mask " + netip.AddrFrom4([4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}).String()
		}
		if p.Engine != "" {
			name += " pe " + p.Engine
		}
	}
	if s.OnePacket {
		name += " ops"
	}
	return name
}
