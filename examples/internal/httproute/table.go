package httproute

import (
	"cmp"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Attachment is a route at one place.
type Attachment struct {
	Route *Route

	// Hostnames are those under which the route is served there, in lower case; none: all.
	Hostnames []string
}

// Table leads requests to rules. The zero Table leads none; it is immutable.
type Table struct {
	hosts ByHost[*paths]
}

// New makes a Table of what is attached to one place.
func New(attached []Attachment) *Table {
	t := &Table{}
	byHost := map[string][]*entry{}
	for _, a := range attached {
		hostnames := a.Hostnames
		if len(hostnames) == 0 {
			hostnames = []string{""}
		}
		for _, hostname := range hostnames {
			for i, rule := range a.Route.Rules {
				for j := range rule.matches {
					m := &rule.matches[j]
					byHost[hostname] = append(byHost[hostname], &entry{match: m, rule: i, at: j, to: Match{Rule: rule, Route: a.Route, Prefix: m.prefix()}})
				}
			}
		}
	}
	for hostname, entries := range byHost {
		t.hosts.Put(hostname, newPaths(entries))
	}
	return t
}

// kind is how a path is compared.
type kind uint8

const (
	prefix kind = iota
	suffix      // the method of gRPC without its service
	pattern
	exact
)

// match is a condition that a request fulfils or not.
type match struct {
	kind    kind
	path    string         // what it is compared with, decoded; a prefix without the slash at its end
	re      *regexp.Regexp // of a pattern
	length  int            // in characters, as it is written
	method  string
	headers []value
	queries []value
}

// value is what a header or a query parameter has to be.
type value struct {
	name  string // of a header in its canonical form
	exact string
	re    *regexp.Regexp // in place of exact
}

func (m *match) prefix() string {
	if m.kind == prefix {
		return m.path
	}
	return ""
}

// entry is a match in a table.
type entry struct {
	*match
	rule, at int // of the match in its route
	to       Match
	order    int // among those of the hostname
}

// compareEntries puts what takes precedence first (HTTPRouteRule.matches and GRPCRouteRule.matches in the API).
func compareEntries(a, b *entry) int {
	some := func(m *match) int { return min(len(m.method), 1) }
	return cmp.Or(
		-cmp.Compare(a.rank(), b.rank()),
		-cmp.Compare(a.length, b.length),
		-cmp.Compare(some(a.match), some(b.match)),
		-cmp.Compare(len(a.headers), len(b.headers)),
		-cmp.Compare(len(a.queries), len(b.queries)),
		a.to.Route.Created.Compare(b.to.Route.Created),
		cmp.Compare(a.to.Route.Namespace+"/"+a.to.Route.Name, b.to.Route.Namespace+"/"+b.to.Route.Name),
		cmp.Compare(a.to.Route.Kind, b.to.Route.Kind),
		cmp.Compare(a.rule, b.rule),
		cmp.Compare(a.at, b.at),
	)
}

// rank orders kinds: a gRPC method in any service comes after all services but before everything.
func (m *match) rank() int {
	if m.kind == prefix && m.path == "" {
		return -1
	}
	return [...]int{exact: 3, pattern: 2, prefix: 1, suffix: 0}[m.kind]
}

// paths are the entries of one hostname.
type paths struct {
	exact  map[string][]*entry
	prefix map[string][]*entry
	others []*entry
}

func newPaths(entries []*entry) *paths {
	slices.SortStableFunc(entries, compareEntries)
	p := &paths{exact: map[string][]*entry{}, prefix: map[string][]*entry{}}
	for i, e := range entries {
		e.order = i
		switch e.kind {
		case exact:
			p.exact[e.path] = append(p.exact[e.path], e)
		case prefix:
			p.prefix[e.path] = append(p.prefix[e.path], e)
		default:
			p.others = append(p.others, e)
		}
	}
	return p
}

func (p *paths) find(r *http.Request, q *query) *Match {
	path := r.URL.Path
	if path == "" {
		path = "/"
	}
	best := first(p.exact[path], nil, r, q)
	for _, e := range p.others {
		if best != nil && best.order < e.order {
			break
		}
		if e.hasPath(path) && e.fulfilled(r, q) {
			best = e
			break
		}
	}
	for end := len(path); end >= 0; end = strings.LastIndexByte(path[:end], '/') {
		best = first(p.prefix[path[:end]], best, r, q)
		if end == 0 {
			break
		}
	}
	if best == nil {
		return nil
	}
	return &best.to
}

// first returns the first of a list that is fulfilled, if it comes before best, and otherwise best.
func first(list []*entry, best *entry, r *http.Request, q *query) *entry {
	for _, e := range list {
		if best != nil && best.order < e.order {
			break
		}
		if e.fulfilled(r, q) {
			return e
		}
	}
	return best
}

func (m *match) hasPath(path string) bool {
	if m.kind == pattern {
		return m.re.MatchString(path)
	}
	service, ok := strings.CutSuffix(path, m.path) // /service + /method
	return ok && len(service) > 1 && strings.LastIndexByte(service, '/') == 0
}

// fulfilled compares what is not the path.
func (m *match) fulfilled(r *http.Request, q *query) bool {
	if m.method != "" && m.method != r.Method {
		return false
	}
	for i := range m.headers {
		h := &m.headers[i]
		if h.name == "Host" { // net/http keeps it elsewhere
			if !h.is(r.Host) {
				return false
			}
			continue
		}
		values, ok := r.Header[h.name]
		if !ok || !h.is(strings.Join(values, ",")) {
			return false
		}
	}
	for i := range m.queries {
		values, ok := q.get()[m.queries[i].name]
		if !ok || !m.queries[i].is(values[0]) {
			return false
		}
	}
	return true
}

func (v *value) is(s string) bool {
	if v.re != nil {
		return v.re.MatchString(s)
	}
	return s == v.exact
}

// query parses the query when a match asks for it.
type query struct {
	url    *url.URL
	values url.Values
}

func (q *query) get() url.Values {
	if q.values == nil {
		q.values, _ = url.ParseQuery(strings.ReplaceAll(q.url.RawQuery, ";", "%3B")) // a semicolon is a character like others; Go would leave the parameter out
	}
	return q.values
}
