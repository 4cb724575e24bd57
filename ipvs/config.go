package ipvs

import (
	"errors"
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
		f.errs = append(f.errs, errors.New("owns: no prefix and no mark: nothing could be owned"))
	}
	for i, p := range c.Owns.Prefixes {
		f.at("owns.prefixes", i)
		switch {
		case !p.IsValid():
			f.add("", "no prefix")
		case p.Addr().Is4In6():
			f.add("", "%s is IPv4 written as IPv6", p)
		case p != p.Masked():
			f.add("", "%s has bits after its length; %s has not", p, p.Masked())
		}
	}
	for i, m := range c.Owns.Marks {
		f.at("owns.marks", i)
		if m.First == 0 || m.First > m.Last {
			f.add("", "%d to %d is not a range of marks from 1 up", m.First, m.Last)
		}
	}
	return f.join()
}

// check is Validate for a state that a client shall keep: all of it must be owned.
func (o Owns) check(s State) error {
	var f faults
	f.services("services", s.Services)
	f.owned("services", o, s.Services)
	return f.join()
}

func (f *faults) owned(list string, o Owns, services []Service) {
	for i := range services {
		f.at(list, i)
		f.ownedKey(o, services[i].Key)
	}
}

func (f *faults) ownedKey(o Owns, k Key) {
	if (k.Mark != 0 || k.Address != netip.AddrPort{}) && !o.Contains(k) {
		f.add("", "%s: %w", k, ErrNotOwned)
	}
}

// Validate names every fault of c, each with its path: bad services, unidentifiable ones to drop, and services named twice.
func (c Change) Validate() error {
	var f faults
	f.change(&c)
	return f.join()
}

func (f *faults) change(c *Change) {
	f.services("set", c.Set)
	for i, k := range c.Drop {
		f.at("drop", i)
		f.key(k)
	}
	if len(c.Drop) == 0 {
		return
	}
	twice(c.Drop, func(k *Key) Key { return *k }, Key.Compare, func(i, j int) {
		f.at("drop", j)
		f.add("", "%s is drop[%d] already", c.Drop[i], i)
	})
	if len(c.Set) == 0 {
		return
	}
	set := make(map[Key]int, len(c.Set))
	for i := range c.Set {
		set[c.Set[i].Key] = i
	}
	for j, k := range c.Drop {
		if i, ok := set[k]; ok {
			f.at("drop", j)
			f.add("", "%s is set[%d] already", k, i)
		}
	}
}

// checkChange is Validate for a change that a client shall make.
func (o Owns) checkChange(c Change) error {
	var f faults
	f.change(&c)
	f.owned("set", o, c.Set)
	for i, k := range c.Drop {
		f.at("drop", i)
		f.ownedKey(o, k)
	}
	return f.join()
}

// checkPlan is the validation of a plan, which may be of states that nobody looked at.
func (o Owns) checkPlan(p Plan) error {
	var f faults
	for i := range p.changes {
		f.at("changes", i)
		if c := &p.changes[i]; c.want != nil {
			f.service(c.want)
		} else {
			f.key(c.key)
		}
		f.at("changes", i)
		f.ownedKey(o, p.changes[i].key)
	}
	twice(p.changes, func(c *change) Key { return c.key }, Key.Compare, func(i, j int) {
		f.at("changes", j)
		f.add("", "%s is changes[%d] already", p.changes[i].key, i)
	})
	return f.join()
}

// checkKeys names the keys that identify no service.
func checkKeys(keys ...Key) error {
	var f faults
	for i, k := range keys {
		f.at("keys", i)
		f.key(k)
	}
	return f.join()
}
