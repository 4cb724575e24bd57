package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// Ruleset is what a State and a Config are in nftables: one table of sets, chains and counters. Compile makes one, Client.Read reads
// one. The zero Ruleset is no table.
//
// Names are made from content: a set's from what selects its members, a chain's from its rules. So equal parts of policies are shared,
// and a Ruleset depends on the objects of its State alone, never on the order of changes that led there.
type Ruleset struct {
	table    string
	sets     map[string]*set
	chains   map[string]*chain
	counters map[string]string // name -> comment

	journal *journal // of what is changed; nil when nobody wants to know
}

// set is a set or map with its elements. A key of elements is the key's bytes, with a mark behind it for the end of a range; the value
// is the bytes of a map's value or, in verdict maps, the chain's name, or a counter's name.
type set struct {
	def      *nft.Set
	elements map[string]string
}

const rangeEnd = "$"

// chain is a chain by what identifies its rules; the rules themselves are not read back from a kernel.
type chain struct {
	hook   *nft.Hook
	stamps []uint64
	rules  []nft.Rule // nil when read
}

func newRuleset(table string) *Ruleset {
	return &Ruleset{table: table, sets: map[string]*set{}, chains: map[string]*chain{}, counters: map[string]string{}}
}

// Empty reports whether r is no table at all.
func (r Ruleset) Empty() bool { return len(r.chains) == 0 && len(r.sets) == 0 && len(r.counters) == 0 }

func (c *chain) equal(d *chain) bool {
	sameHook := (c.hook == nil) == (d.hook == nil) && (c.hook == nil || *c.hook == *d.hook)
	return sameHook && slices.Equal(c.stamps, d.stamps)
}

func (r *Ruleset) addChain(name string, hook *nft.Hook, rules []nft.Rule) {
	r.journal.chain(r, name)
	r.chains[name] = &chain{hook: hook, rules: rules, stamps: (&nft.Chain{Rules: rules}).Stamps()}
}

func (r *Ruleset) dropChain(name string) {
	r.journal.chain(r, name)
	delete(r.chains, name)
}

func (r *Ruleset) addSet(def *nft.Set) *set {
	r.journal.set(r, def.Name)
	s := &set{def: def, elements: map[string]string{}}
	r.sets[def.Name] = s
	return s
}

func (r *Ruleset) dropSet(name string) {
	r.journal.set(r, name)
	delete(r.sets, name)
}

func (r *Ruleset) addCounter(name, comment string) {
	r.journal.counter(r, name)
	r.counters[name] = comment
}

func (r *Ruleset) dropCounter(name string) {
	r.journal.counter(r, name)
	delete(r.counters, name)
}

// put gives a key a value; drop takes the key away.
func (r *Ruleset) put(s *set, key, value string) {
	r.journal.element(s, key)
	s.elements[key] = value
}

func (r *Ruleset) drop(s *set, key string) {
	r.journal.element(s, key)
	delete(s.elements, key)
}

// element is the kernel's form of a key and its value.
func (s *set) element(key, value string) nft.Element {
	e, _ := s.elementIn(nil, key, value)
	return e
}

// elementIn is element in the memory at the end of b, which it returns for the next.
func (s *set) elementIn(b []byte, key, value string) (nft.Element, []byte) {
	at := len(b)
	b = append(append(b, key...), value...)
	e := nft.Element{Key: b[at : at+len(key)]}
	if s.def.Interval && strings.HasSuffix(key, rangeEnd) && len(key) == s.keySize()+1 {
		e.Key, e.End = e.Key[:len(key)-1], true
		return e, b
	}
	switch {
	case s.def.Verdict:
		e.Verdict = &nft.Verdict{Code: nft.Goto, Chain: value}
	case s.def.Map():
		e.Data = b[at+len(key):]
	}
	return e, b
}

func (s *set) keySize() int {
	n := 0
	for _, k := range s.def.Key {
		n += nft.SizeOf(k)
	}
	return n
}

// String prints the Ruleset in the manner of nft, everything sorted. Two Rulesets with the same text are the same.
func (r Ruleset) String() string {
	if r.Empty() {
		return ""
	}
	var b strings.Builder
	b.WriteString("table inet " + r.table + " {\n")
	for _, name := range slices.Sorted(maps.Keys(r.counters)) {
		b.WriteString(nft.Counter{Name: name, Comment: r.counters[name]}.String())
	}
	for _, name := range slices.Sorted(maps.Keys(r.sets)) {
		s := r.sets[name]
		text := s.def.String()
		if len(s.elements) == 0 {
			b.WriteString(text)
			continue
		}
		b.WriteString(strings.TrimSuffix(text, "\t}\n") + "\t\telements = {\n")
		for _, key := range slices.Sorted(maps.Keys(s.elements)) {
			e := s.element(key, s.elements[key])
			b.WriteString("\t\t\t" + s.def.Format(&e, true) + "\n")
		}
		b.WriteString("\t\t}\n\t}\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.chains)) {
		b.WriteString(r.chains[name].text(name))
	}
	b.WriteString("}\n")
	return b.String()
}

func (c *chain) text(name string) string {
	var b strings.Builder
	b.WriteString("\tchain " + name + " {\n")
	if h := c.hook; h != nil {
		fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d;\n", h.Type, h.Point, h.Priority)
	}
	for i, stamp := range c.stamps {
		if c.rules == nil {
			fmt.Fprintf(&b, "\t\t# a rule with the stamp %016x\n", stamp)
			continue
		}
		b.WriteString("\t\t" + c.rules[i].String() + "\n")
	}
	b.WriteString("\t}\n")
	return b.String()
}
