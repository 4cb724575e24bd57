package ipvs

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Format prints services as ipvsadm -Ln does: with their settings, and each destination with its connections. Those come from stats, which may
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
	// ipvsadm's order: marks last, else protocols before addresses.
	slices.SortStableFunc(services, func(a, b Service) int { return int(a.Protocol) - int(b.Protocol) })
	slices.SortStableFunc(services, func(a, b Service) int { return min(int(a.Mark), 1) - min(int(b.Mark), 1) })
	for i := range services {
		v := &services[i]
		b.WriteString(v.line() + "\n")
		for _, d := range v.Destinations {
			n := counts[v.Key][d.Address]
			fmt.Fprintf(&b, "  -> %-28s %-7s %-6d %-10d %-10d\n", d.Address, forwards[d.Method], d.Weight, n.Active, n.Inactive)
		}
	}
	return b.String()
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
	var flags []string
	if s.Fallback {
		flags = append(flags, s.Scheduler.String()+"-fallback")
	}
	if s.HashPort {
		flags = append(flags, s.Scheduler.String()+"-port")
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
			mask := ^uint32(0) << (32 - p.Prefix)
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
