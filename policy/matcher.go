package policy

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// matcher selects pods as a policy's subject or peer does. Equal ones are shared: a pod is asked once for each, and knows those that
// match it.
type matcher struct {
	matching
	key  string
	refs int
	pods map[*pod]struct{}

	subjects map[*rules]struct{}  // policies that are for the pods
	members  map[*setUse]struct{} // sets that hold their addresses
}

// matching is what a matcher asks for.
type matching struct {
	scope  string    // the one namespace; empty for all
	spaces *Selector // of namespaces; nil for all
	labels *Selector // of pods; nil for all
}

func (m *matching) matches(p *pod) bool {
	return (m.scope == "" || m.scope == p.key.Namespace) && (m.spaces == nil || m.spaces.Matches(p.space.labels)) &&
		(m.labels == nil || m.labels.Matches(p.Meta.Labels))
}

// identity appends a text that two matchings share exactly if they ask for the same.
func (m *matching) identity(b []byte) []byte {
	b = strconv.AppendQuote(b, m.scope)
	for _, s := range [...]*Selector{m.spaces, m.labels} {
		if b = append(b, '|'); s != nil {
			b = s.identity(b)
		}
	}
	return b
}

func (s *Selector) identity(b []byte) []byte {
	label := func(k, v string) {
		b = append(strconv.AppendQuote(append(strconv.AppendQuote(b, k), '='), v), ',')
	}
	if len(s.MatchLabels) == 1 {
		for k, v := range s.MatchLabels {
			label(k, v)
		}
	} else {
		for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
			label(k, s.MatchLabels[k])
		}
	}
	for i := range s.MatchExpressions {
		b = append(append(b, s.MatchExpressions[i].identity()...), ',')
	}
	return b
}

func (r *Requirement) identity() string {
	part := strconv.Quote(r.Key) + " " + strconv.Quote(string(r.Operator))
	for _, v := range r.Values {
		part += strconv.Quote(v)
	}
	return part
}

// canonical returns what all selectors become that ask for the same in another order; nil for those that ask for nothing.
func (s *Selector) canonical() *Selector {
	if s == nil || s.Empty() {
		return nil
	}
	if len(s.MatchExpressions) == 0 {
		return s
	}
	c := Selector{MatchLabels: s.MatchLabels}
	for _, r := range s.MatchExpressions {
		r.Values = slices.Compact(slices.Sorted(slices.Values(r.Values)))
		c.MatchExpressions = append(c.MatchExpressions, r)
	}
	slices.SortFunc(c.MatchExpressions, func(a, b Requirement) int { return strings.Compare(a.identity(), b.identity()) })
	c.MatchExpressions = slices.CompactFunc(c.MatchExpressions, func(a, b Requirement) bool { return a.identity() == b.identity() })
	return &c
}

// String says what is asked for, for people.
func (m *matching) String() string {
	var parts []string
	switch {
	case m.scope != "":
		parts = append(parts, m.scope)
	case m.spaces != nil:
		parts = append(parts, "namespaces "+m.spaces.String())
	}
	if m.labels != nil {
		parts = append(parts, "pods "+m.labels.String())
	}
	if len(parts) == 0 {
		return "all pods"
	}
	return strings.Join(parts, " ")
}

// matchers finds the matchers that a pod may satisfy without asking all of them: each is filed under one thing that it demands.
type matchers struct {
	byKey map[string]*matcher
	files map[file]few[*matcher]
}

// file is a demand: a label of the pod in one namespace or in any, a namespace, a label of the namespace; the zero file holds those that
// demand nothing of the kind.
type file struct {
	kind       byte // 'p' for a pod's label, 's' for a namespace, 'n' for a namespace's label
	scope      string
	key, value string
}

func newMatchers() *matchers {
	return &matchers{byKey: map[string]*matcher{}, files: map[file]few[*matcher]{}}
}

// under lists where a matcher is filed.
func (m *matching) under() []file {
	if m.labels != nil {
		if k, values, ok := m.labels.demand(); ok {
			return filed('p', m.scope, k, values)
		}
	}
	if m.scope != "" {
		return []file{{kind: 's', scope: m.scope}}
	}
	if m.spaces != nil {
		if k, values, ok := m.spaces.demand(); ok {
			return filed('n', "", k, values)
		}
	}
	return []file{{}}
}

func filed(kind byte, scope, key string, values []string) []file {
	list := make([]file, len(values))
	for i, v := range values {
		list[i] = file{kind, scope, key, v}
	}
	return list
}

// demand returns a label that the selector asks for, and the values that will do; the fewest.
func (s *Selector) demand() (key string, values []string, ok bool) {
	if len(s.MatchLabels) > 0 {
		k := slices.Min(slices.Collect(maps.Keys(s.MatchLabels)))
		return k, []string{s.MatchLabels[k]}, true
	}
	for i := range s.MatchExpressions {
		if r := &s.MatchExpressions[i]; r.Operator == In && len(r.Values) > 0 && (!ok || len(r.Values) < len(values)) {
			key, values, ok = r.Key, r.Values, true
		}
	}
	return key, values, ok
}

// of lists the matchers that match p.
func (ms *matchers) of(p *pod) []*matcher {
	var list []*matcher
	ask := func(f file) {
		ms.files[f].each(func(m *matcher) {
			if m.matches(p) {
				list = append(list, m)
			}
		})
	}
	ask(file{})
	ask(file{kind: 's', scope: p.key.Namespace})
	for k, v := range p.Meta.Labels {
		ask(file{'p', "", k, v})
		ask(file{'p', p.key.Namespace, k, v})
	}
	for k, v := range p.space.labels {
		ask(file{'n', "", k, v})
	}
	return list
}

// acquire returns the matcher that asks for m, made if need be; release gives it back.
func (w *world) acquire(m matching) *matcher {
	id := m.identity(w.making.text[:0])
	w.making.text = id
	got := w.matchers.byKey[string(id)]
	if got == nil {
		key := string(id)
		got = &matcher{matching: m, key: key, pods: map[*pod]struct{}{}}
		w.matchers.byKey[key] = got
		for _, f := range m.under() {
			link(w.matchers.files, f, got)
		}
		w.candidates(&got.matching, func(p *pod) {
			if got.matches(p) {
				got.pods[p] = struct{}{}
				p.matched = append(p.matched, got)
			}
		})
	}
	got.refs++
	return got
}

func (w *world) release(m *matcher) {
	if m.refs--; m.refs > 0 {
		return
	}
	delete(w.matchers.byKey, m.key)
	for _, f := range m.under() {
		unlink(w.matchers.files, f, m)
	}
	for p := range m.pods {
		if i := slices.Index(p.matched, m); i >= 0 {
			p.matched = slices.Delete(p.matched, i, i+1)
		}
	}
}

// candidates calls f for all pods that may satisfy m.
func (w *world) candidates(m *matching, f func(*pod)) {
	if m.labels != nil {
		if key, values, ok := m.labels.demand(); ok {
			for _, v := range slices.Compact(slices.Sorted(slices.Values(values))) {
				w.byLabel[file{'p', m.scope, key, v}].each(f)
			}
			return
		}
	}
	if m.scope != "" {
		if s := w.namespaces[m.scope]; s != nil {
			each(s.pods, f)
		}
		return
	}
	for _, s := range w.namespaces {
		if m.spaces == nil || m.spaces.Matches(s.labels) {
			each(s.pods, f)
		}
	}
}

func each[T comparable](set map[T]struct{}, f func(T)) {
	for v := range set {
		f(v)
	}
}
