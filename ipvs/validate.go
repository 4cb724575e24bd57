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
	seen := make(map[Key]int, len(s.Services))
	for i := range s.Services {
		at := fmt.Sprintf("services[%d]", i)
		f.service(at, &s.Services[i])
		if j, twice := seen[s.Services[i].Key]; twice {
			f.add(at, "%s is services[%d] already", s.Services[i].Key, j)
		}
		seen[s.Services[i].Key] = i
	}
	return errors.Join(f...)
}

// faults collects what is wrong.
type faults []error

func (f *faults) add(at, format string, args ...any) {
	*f = append(*f, fmt.Errorf("%s: "+format, append([]any{at}, args...)...))
}

// key checks what identifies a service.
func (f *faults) key(at string, k Key) {
	if k.Mark != 0 {
		if k.Protocol != 0 || k.Address != (netip.AddrPort{}) {
			f.add(at, "a service is either a mark's or an address's")
		}
		if _, ok := familyNames[k.Family]; !ok {
			f.add(at+".family", "%d is neither ipv4 nor ipv6", uint8(k.Family))
		}
		return
	}
	if _, ok := protocolNames[k.Protocol]; !ok {
		f.add(at+".protocol", "%d is not tcp, udp or sctp", uint8(k.Protocol))
	}
	if k.Family != 0 {
		f.add(at+".family", "only a mark's service says its family")
	}
	f.address(at+".address", k.Address.Addr())
}

// address checks one that packets go to.
func (f *faults) address(at string, a netip.Addr) bool {
	switch {
	case !a.IsValid():
		f.add(at, "no address")
	case a.Is4In6():
		f.add(at, "%s is IPv4 written as IPv6", a)
	case a.Zone() != "":
		f.add(at, "%s has a zone", a)
	case a.IsUnspecified(), a.IsMulticast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		f.add(at, "%s is not the address of one machine", a)
	default:
		return true
	}
	return false
}

func (f *faults) service(at string, s *Service) {
	f.key(at, s.Key)
	if !validName(string(s.Scheduler)) {
		f.add(at+".scheduler", "%q is not up to %d letters, digits, - and _", string(s.Scheduler), maxName)
	}
	if !s.Scheduler.hashes() {
		if s.HashPort {
			f.add(at+".hashPort", "scheduler %s has no such flag", s.Scheduler)
		}
		if s.Fallback {
			f.add(at+".fallback", "scheduler %s has no such flag", s.Scheduler)
		}
	}
	if s.OnePacket && s.Mark == 0 && s.Protocol != UDP {
		f.add(at+".onePacket", "is for UDP, not %s", s.Protocol)
	}
	if s.Mark == 0 && s.Address.Port() == 0 && s.Persistence.Timeout == 0 {
		f.add(at+".address", "port 0, every port, needs persistence")
	}
	f.persistence(at+".persistence", s)
	seen := make(map[netip.AddrPort]int, len(s.Destinations))
	for i := range s.Destinations {
		d, at := &s.Destinations[i], fmt.Sprintf("%s.destinations[%d]", at, i)
		f.destination(at, s, d)
		if j, twice := seen[d.Address]; twice {
			f.add(at, "%s is destinations[%d] already", d.Address, j)
		}
		seen[d.Address] = i
	}
}

func (f *faults) persistence(at string, s *Service) {
	p := s.Persistence
	switch {
	case p.Timeout < 0, p.Timeout%time.Second != 0, p.Timeout > maxTimeout:
		f.add(at+".timeout", "%s is not whole seconds up to %s", p.Timeout, maxTimeout)
	case p.Timeout == 0 && p.Prefix != 0:
		f.add(at+".prefix", "means nothing without a timeout")
	case p.Timeout == 0 && p.Engine != "":
		f.add(at+".engine", "means nothing without a timeout")
	}
	if bits := s.family().bits(); p.Prefix < 0 || p.Prefix > bits {
		f.add(at+".prefix", "%d is not between 1 and %d", p.Prefix, bits)
	}
	if !validName(p.Engine) {
		f.add(at+".engine", "%q is not up to %d letters, digits, - and _", p.Engine, maxName)
	}
	if p.Engine == "sip" && s.Mark == 0 && s.Protocol != UDP {
		f.add(at+".engine", "sip is for UDP, not %s", s.Protocol)
	}
}

func (f *faults) destination(at string, s *Service, d *Destination) {
	if f.address(at+".address", d.Address.Addr()) && (s.Mark != 0 || s.Address.IsValid()) &&
		d.Address.Addr().Is4() != (s.family() == IPv4) && d.Method != Tunneling {
		f.add(at+".address", "%s is of another family than the service, which only a tunnel can cross", d.Address.Addr())
	}
	_, known := methodNames[d.Method]
	anyPort := s.Mark != 0 || s.Address.Port() == 0
	switch port := d.Address.Port(); {
	case !known || d.Method == Bypass:
		f.add(at+".method", "%s is not masquerade, local, tunnel or direct", d.Method)
	case anyPort && port != 0 && (d.Method != Masquerade || s.Mark == 0):
		f.add(at+".address", "port %d: the service takes every port and keeps it", port)
	case !anyPort && d.Method != Masquerade && port != s.Address.Port():
		f.add(at+".address", "port %d: method %s cannot change the service's port %d", port, d.Method, s.Address.Port())
	case !anyPort && port == 0:
		f.add(at+".address", "no port")
	}
	if s.OnePacket && d.Method == Masquerade {
		f.add(at+".method", "answers of a one-packet service are not translated back, so they never reach the client")
	}
	if d.Weight > maxWeight {
		f.add(at+".weight", "%d is over %d", d.Weight, maxWeight)
	}
	if d.Lower > d.Upper {
		f.add(at+".lower", "%d is over upper, %d", d.Lower, d.Upper)
	}
	f.tunnel(at+".tunnel", d)
}

func (f *faults) tunnel(at string, d *Destination) {
	t := d.Tunnel
	if d.Method != Tunneling {
		if t != (Tunnel{}) {
			f.add(at, "means nothing to method %s", d.Method)
		}
		return
	}
	if _, ok := tunnelNames[t.Type]; !ok {
		f.add(at+".type", "%d is not ipip, gue or gre", uint8(t.Type))
		return
	}
	if (t.Type == GUE) != (t.Port != 0) {
		f.add(at+".port", "gue needs one, the others have none")
	}
	_, known := checksumNames[t.Checksum]
	if !known || t.Type == IPIP && t.Checksum != NoChecksum || t.Type == GRE && t.Checksum == RemoteChecksum {
		f.add(at+".checksum", "%s is not for %s", t.Checksum, t.Type)
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
