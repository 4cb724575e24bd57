package ipvs

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

const (
	maxName    = 15 // IP_VS_SCHEDNAME_MAXLEN and IP_VS_PENAME_MAXLEN, without the final zero
	maxWeight  = 1<<31 - 1
	maxTimeout = (1<<32 - 1) / 1000 * time.Second // the kernel keeps it in ticks, at most 1000 a second, in 32 bits
)

// Validate names every fault of s, each with its path, in one error. It refuses what the kernel refuses, and also what the kernel accepts
// without any use, such as a service for ICMP, port 0 without persistence or a tunnel's port for a masqueraded destination.
func (s State) Validate() error {
	var f faults
	f.services("services", s.Services)
	return f.join()
}

// faults collects what is wrong. It knows where it is, so that paths are only spelled out for faults.
type faults struct {
	errs        []error
	list        string // of services or keys
	index       int
	destination int // in the service; -1: the service itself
}

func (f *faults) join() error { return errors.Join(f.errs...) }

// at starts on an element of a list.
func (f *faults) at(list string, index int) {
	f.list, f.index, f.destination = list, index, -1
}

// add notes a fault of a field, which starts with a dot; empty means the element itself.
func (f *faults) add(field, format string, args ...any) {
	path := fmt.Sprintf("%s[%d]", f.list, f.index)
	if f.destination >= 0 {
		path += fmt.Sprintf(".destinations[%d]", f.destination)
	}
	f.errs = append(f.errs, fmt.Errorf("%s%s: "+format, append([]any{path, field}, args...)...))
}

// services checks each, and that none comes twice.
func (f *faults) services(list string, services []Service) {
	for i := range services {
		f.at(list, i)
		f.service(&services[i])
	}
	if len(services) < 2 {
		return
	}
	twice(services, func(s *Service) Key { return s.Key }, Key.Compare, func(i, j int) {
		f.at(list, j)
		f.add("", "%s is %s[%d] already", services[i].Key, list, i)
	})
}

// twice calls found for every element that has the key of an earlier one. A list in order, which most are, takes no map.
func twice[T any, K comparable](list []T, key func(*T) K, compare func(a, b K) int, found func(earlier, later int)) {
	if ascending(list, key, compare) {
		return
	}
	seen := make(map[K]int, len(list))
	for j := range list {
		if i, ok := seen[key(&list[j])]; ok {
			found(i, j)
			continue
		}
		seen[key(&list[j])] = j
	}
}

// ascending reports whether each key is greater than the one before.
func ascending[T, K any](s []T, key func(*T) K, compare func(a, b K) int) bool {
	for i := 1; i < len(s); i++ {
		if compare(key(&s[i-1]), key(&s[i])) >= 0 {
			return false
		}
	}
	return true
}

// inOrder is ascending for destinations. It is the most frequent question about them.
func inOrder(d []Destination) bool {
	for i := 1; i < len(d); i++ {
		if d[i-1].Address.Compare(d[i].Address) >= 0 {
			return false
		}
	}
	return true
}

// key checks what identifies a service.
func (f *faults) key(k Key) {
	if k.Mark != 0 {
		if k.Protocol != 0 || k.Address != (netip.AddrPort{}) {
			f.add("", "a service is either a mark's or an address's")
		}
		if k.Family != IPv4 && k.Family != IPv6 {
			f.add(".family", "%d is neither ipv4 nor ipv6", uint8(k.Family))
		}
		return
	}
	if k.Protocol != TCP && k.Protocol != UDP && k.Protocol != SCTP {
		f.add(".protocol", "%d is not tcp, udp or sctp", uint8(k.Protocol))
	}
	if k.Family != 0 {
		f.add(".family", "only a mark's service says its family")
	}
	f.address(k.Address.Addr())
}

// address checks one that packets go to.
func (f *faults) address(a netip.Addr) bool {
	switch {
	case !a.IsValid():
		f.add(".address", "no address")
	case a.Is4In6():
		f.add(".address", "%s is IPv4 written as IPv6", a)
	case a.Zone() != "":
		f.add(".address", "%s has a zone", a)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		f.add(".address", "%s is not the address of one machine", a)
	default:
		return true
	}
	return false
}

func (f *faults) service(s *Service) {
	f.key(s.Key)
	if !validName(string(s.Scheduler)) {
		f.add(".scheduler", "%q is not up to %d letters, digits, - and _", string(s.Scheduler), maxName)
	}
	if !s.Scheduler.hashes() {
		if s.HashPort {
			f.add(".hashPort", "scheduler %s has no such flag", s.Scheduler)
		}
		if s.Fallback {
			f.add(".fallback", "scheduler %s has no such flag", s.Scheduler)
		}
	}
	if s.OnePacket && s.Mark == 0 && s.Protocol != UDP {
		f.add(".onePacket", "is for UDP, not %s", s.Protocol)
	}
	if s.Mark == 0 && s.Address.Port() == 0 && s.Persistence.Timeout == 0 {
		f.add(".address", "port 0, every port, needs persistence")
	}
	f.persistence(s)
	for i := range s.Destinations {
		f.destination = i
		f.destinationOf(s, &s.Destinations[i])
	}
	if inOrder(s.Destinations) {
		return
	}
	twice(s.Destinations, func(d *Destination) netip.AddrPort { return d.Address }, netip.AddrPort.Compare, func(i, j int) {
		f.destination = j
		f.add("", "%s is destinations[%d] already", s.Destinations[i].Address, i)
	})
}

func (f *faults) persistence(s *Service) {
	p := s.Persistence
	switch {
	case p.Timeout < 0, p.Timeout%time.Second != 0, p.Timeout > maxTimeout:
		f.add(".persistence.timeout", "%s is not whole seconds up to %s", p.Timeout, maxTimeout)
	case p.Timeout == 0 && p.Prefix != 0:
		f.add(".persistence.prefix", "means nothing without a timeout")
	case p.Timeout == 0 && p.Engine != "":
		f.add(".persistence.engine", "means nothing without a timeout")
	}
	if bits := s.family().bits(); p.Prefix < 0 || p.Prefix > bits {
		f.add(".persistence.prefix", "%d is not between 1 and %d", p.Prefix, bits)
	}
	if !validName(p.Engine) {
		f.add(".persistence.engine", "%q is not up to %d letters, digits, - and _", p.Engine, maxName)
	}
	if p.Engine == "sip" && s.Mark == 0 && s.Protocol != UDP {
		f.add(".persistence.engine", "sip is for UDP, not %s", s.Protocol)
	}
}

func (f *faults) destinationOf(s *Service, d *Destination) {
	if f.address(d.Address.Addr()) && (s.Mark != 0 || s.Address.IsValid()) &&
		d.Address.Addr().Is4() != (s.family() == IPv4) && d.Method != Tunneling {
		f.add(".address", "%s is of another family than the service, which only a tunnel can cross", d.Address.Addr())
	}
	anyPort := s.Mark != 0 || s.Address.Port() == 0
	switch port := d.Address.Port(); {
	case d.Method >= Bypass:
		f.add(".method", "%s is not masquerade, local, tunnel or direct", d.Method)
	case anyPort && port != 0 && (d.Method != Masquerade || s.Mark == 0):
		f.add(".address", "port %d: the service takes every port and keeps it", port)
	case !anyPort && d.Method != Masquerade && port != s.Address.Port():
		f.add(".address", "port %d: method %s cannot change the service's port %d", port, d.Method, s.Address.Port())
	case !anyPort && port == 0:
		f.add(".address", "no port")
	}
	if s.OnePacket && d.Method == Masquerade {
		f.add(".method", "answers of a one-packet service are not translated back, so they never reach the client")
	}
	if d.Weight > maxWeight {
		f.add(".weight", "%d is over %d", d.Weight, maxWeight)
	}
	if d.Lower > d.Upper {
		f.add(".lower", "%d is over upper, %d", d.Lower, d.Upper)
	}
	f.tunnel(d)
}

func (f *faults) tunnel(d *Destination) {
	t := d.Tunnel
	if d.Method != Tunneling {
		if t != (Tunnel{}) {
			f.add(".tunnel", "means nothing to method %s", d.Method)
		}
		return
	}
	if t.Type > GRE {
		f.add(".tunnel.type", "%d is not ipip, gue or gre", uint8(t.Type))
		return
	}
	if (t.Type == GUE) != (t.Port != 0) {
		f.add(".tunnel.port", "gue needs one, the others have none")
	}
	if t.Checksum > RemoteChecksum || t.Type == IPIP && t.Checksum != NoChecksum || t.Type == GRE && t.Checksum == RemoteChecksum {
		f.add(".tunnel.checksum", "%s is not for %s", t.Checksum, t.Type)
	}
}

func (f Family) bits() int {
	if f == IPv4 {
		return 32
	}
	return 128
}

// validName reports whether the kernel can be asked for a scheduler or engine of this name. Empty is fine: the default.
func validName(s string) bool {
	return len(s) <= maxName && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	})
}
