package service

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/nat"
)

// natChange is a Plan in the words of package nat.
type natChange struct {
	set       []nat.Forward
	drop      []nat.Key
	setRange  []nat.Virtual
	dropRange []netip.Prefix
	inside    []netip.Prefix
	ports     [2]bool           // set has node ports of the family
	on        [2][]netip.Prefix // the addresses that they are on; nil: all
	localhost [2]netip.Addr     // what stands in for loopback addresses
}

// natPart translates a Plan, or says which of its Frontends cannot be.
func natPart(p Plan) (natChange, error) {
	var part natChange
	var errs []error
	var set map[nat.Key]bool // needed only for what goes
	if len(p.Drop) > 0 {
		set = make(map[nat.Key]bool, len(p.Set))
	}
	part.set = make([]nat.Forward, 0, len(p.Set))
	for i := range p.Set {
		f := &p.Set[i]
		switch f.Kind {
		case KindUnknownPort: // every port of a forward's address that is not a forward is rejected
			continue
		case KindUnallocated:
			part.setRange = append(part.setRange, nat.Virtual{Prefix: f.Range, Miss: natRefusal(f.Refusal)})
			continue
		}
		forward := natForward(f)
		if n := max(len(forward.To), len(forward.Near)); n > natTargetsMost {
			err := fmt.Errorf("the NAT backend does not serve %d endpoints, only %d: %w", n, natTargetsMost, errors.ErrUnsupported)
			errs = append(errs, &UnservedError{Key: f.Key, Service: f.Service, Err: err})
			continue
		}
		if set != nil {
			set[forward.Key()] = true
		}
		part.set = append(part.set, forward)
		part.inside = union(part.inside, f.Inside)
		if f.Kind == KindNodePort {
			fam := family(f.Addr)
			part.ports[fam], part.on[fam], part.localhost[fam] = true, f.On, f.Localhost
		}
	}
	for _, k := range p.Drop {
		switch k.Kind {
		case KindUnknownPort:
		case KindUnallocated:
			part.dropRange = append(part.dropRange, k.Range)
		default:
			// An address may change its kind and stay: dropping what is set in the same breath would lose it.
			if key := (nat.Key{Addr: k.Addr, Port: k.Port, Proto: natProto(k.Protocol)}); !set[key] {
				part.drop = append(part.drop, key)
			}
		}
	}
	return part, errors.Join(errs...)
}

// natTargetsMost is how many targets a forward can have.
const natTargetsMost = 1 << 16

func natForward(f *Frontend) nat.Forward {
	forward := nat.Forward{Addr: f.Addr, Port: f.Port, Proto: natProto(f.Protocol), Name: natName(f), Empty: natRefusal(f.Refusal), Affinity: f.Affinity, Allow: f.Sources}
	forward.To, forward.Near = natTargets(f.Endpoints), natTargets(f.Near)
	switch f.Masquerade {
	case MasqueradeNode:
		forward.Masquerade = nat.MasqueradeHost
	case MasqueradeOutside:
		forward.Masquerade = nat.MasqueradeRemote
	case MasqueradeAll:
		forward.Masquerade = nat.MasqueradeAll
	}
	return forward
}

func natTargets(list []Endpoint) []nat.Target {
	targets := make([]nat.Target, len(list))
	for i, e := range list {
		targets[i] = nat.Target{Addr: e.Addr.Addr(), Port: e.Addr.Port()}
	}
	return targets
}

// natName is what a person who lists the table sees.
func natName(f *Frontend) string {
	const most = 64
	name := f.Service.String()
	if f.PortName != "" {
		name += ":" + f.PortName
	}
	if len(name) > most {
		name = name[:most-3] + "..."
	}
	return name
}

func natProto(p Protocol) nat.Proto {
	switch p {
	case UDP:
		return nat.UDP
	case SCTP:
		return nat.SCTP
	}
	return nat.TCP
}

func natRefusal(r Refusal) nat.Refusal {
	if r == Drop {
		return nat.Drop
	}
	return nat.Reject
}

// onlyForwards reports whether the change leaves the rest of the State as it is.
func (c *natChange) onlyForwards(have nat.State) bool {
	if len(c.setRange) > 0 || len(c.dropRange) > 0 {
		return false
	}
	for fam, ports := range c.ports {
		if ports && (!slices.Equal(union(nil, c.on[fam]), ofFamily(have.Local, fam)) || c.localhost[fam] != localhostOf(have, fam)) {
			return false
		}
	}
	return !slices.ContainsFunc(c.inside, func(p netip.Prefix) bool { return !slices.Contains(have.Exclude, p) })
}

// onto returns the State that have becomes.
func (c *natChange) onto(have nat.State, full bool) nat.State {
	want := have
	want.Exclude = union(have.Exclude, c.inside)
	want.Forwards, want.Virtual = c.set, c.setRange
	if !full {
		gone := make(map[nat.Key]bool, len(c.drop)+len(c.set))
		for _, k := range c.drop {
			gone[k] = true
		}
		for _, f := range c.set {
			gone[f.Key()] = true
		}
		want.Forwards = append(slices.DeleteFunc(slices.Clone(have.Forwards), func(f nat.Forward) bool { return gone[f.Key()] }), c.set...)
		want.Virtual = append(slices.DeleteFunc(slices.Clone(have.Virtual), func(v nat.Virtual) bool {
			return slices.Contains(c.dropRange, v.Prefix) || slices.ContainsFunc(c.setRange, func(o nat.Virtual) bool { return o.Prefix == v.Prefix })
		}), c.setRange...)
	}
	// Settings that would say nothing go.
	if len(want.Networks) == 0 && len(want.Forwards) == 0 {
		want.Exclude = nil
	}
	want.Local, want.Localhost = nil, nil
	localhost := func(a netip.Addr) {
		if a.IsValid() {
			want.Localhost = append(want.Localhost, a)
		}
	}
	for fam, ports := range c.ports {
		isPort := func(f nat.Forward) bool { return f.Addr.IsUnspecified() && family(f.Addr) == fam }
		switch {
		case ports:
			want.Local = union(want.Local, c.on[fam])
			localhost(c.localhost[fam])
		case slices.ContainsFunc(want.Forwards, isPort):
			want.Local = union(want.Local, ofFamily(have.Local, fam))
			localhost(localhostOf(have, fam))
		}
	}
	return want
}

// localhostOf returns the address that stands in for loopback addresses of a family.
func localhostOf(s nat.State, fam int) netip.Addr {
	for _, a := range s.Localhost {
		if family(a) == fam {
			return a
		}
	}
	return netip.Addr{}
}

func ofFamily(list []netip.Prefix, fam int) []netip.Prefix {
	return slices.DeleteFunc(slices.Clone(list), func(p netip.Prefix) bool { return family(p.Addr()) != fam })
}

// union returns the networks of both, sorted; it is a itself when b adds nothing.
func union(a, b []netip.Prefix) []netip.Prefix {
	if !slices.ContainsFunc(b, func(p netip.Prefix) bool { return !slices.Contains(a, p) }) {
		return a
	}
	out := slices.Clone(a)
	for _, p := range b {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), x.Bits()-y.Bits())
	})
	return out
}
