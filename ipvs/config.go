package ipvs

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/netns"
)

// Config says where a Client works and what it owns.
type Config struct {
	// NetNS is the network namespace; nil is the one that New is called in. It may be closed after New.
	NetNS *netns.NS

	// Owns must be set: services outside of it are never changed, and never wanted. Everything() owns all.
	Owns Owns
}

// Validate names every fault of c.
func (c Config) Validate() error {
	var f faults
	if len(c.Owns.Prefixes) == 0 && len(c.Owns.Marks) == 0 {
		f.add("owns", "no prefix and no mark: nothing could be owned")
	}
	for i, p := range c.Owns.Prefixes {
		at := fmt.Sprintf("owns.prefixes[%d]", i)
		switch {
		case !p.IsValid():
			f.add(at, "no prefix")
		case p.Addr().Is4In6():
			f.add(at, "%s is IPv4 written as IPv6", p)
		case p != p.Masked():
			f.add(at, "%s has bits after its length; %s has not", p, p.Masked())
		}
	}
	for i, m := range c.Owns.Marks {
		if m.First == 0 || m.First > m.Last {
			f.add(fmt.Sprintf("owns.marks[%d]", i), "%d to %d is not a range of marks from 1 up", m.First, m.Last)
		}
	}
	return errors.Join(f...)
}

// check is Validate for a state that a client shall keep: all of it must be owned.
func (o Owns) check(s State) error {
	f := faults{s.Validate()}
	for i := range s.Services {
		f.owned(fmt.Sprintf("services[%d]", i), o, s.Services[i].Key)
	}
	return errors.Join(f...)
}

func (f *faults) owned(at string, o Owns, k Key) {
	if (k.Mark != 0 || k.Address != netip.AddrPort{}) && !o.Contains(k) {
		*f = append(*f, fmt.Errorf("%s: %s: %w", at, k, ErrNotOwned))
	}
}

// Validate names every fault of c, each with its path: bad services, unidentifiable ones to drop, and services named twice.
func (c Change) Validate() error {
	var f faults
	seen := make(map[Key]string, len(c.Set)+len(c.Drop))
	once := func(at string, k Key) {
		if other, twice := seen[k]; twice {
			f.add(at, "%s is %s already", k, other)
		}
		seen[k] = at
	}
	for i := range c.Set {
		at := fmt.Sprintf("set[%d]", i)
		f.service(at, &c.Set[i])
		once(at, c.Set[i].Key)
	}
	for i, k := range c.Drop {
		at := fmt.Sprintf("drop[%d]", i)
		f.key(at, k)
		once(at, k)
	}
	return errors.Join(f...)
}

// checkChange is Validate for a change that a client shall make.
func (o Owns) checkChange(c Change) error {
	f := faults{c.Validate()}
	for i := range c.Set {
		f.owned(fmt.Sprintf("set[%d]", i), o, c.Set[i].Key)
	}
	for i, k := range c.Drop {
		f.owned(fmt.Sprintf("drop[%d]", i), o, k)
	}
	return errors.Join(f...)
}
