package route

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Rule leads requests that match to a backend.
type Rule struct {
	// Origin tells where the rule comes from: the object and the field.
	Origin string

	// Host is a name, *.name for the names one label below it, or empty for all. Lower case.
	Host string

	Path Path

	// Created and Origin order rules that are otherwise equal.
	Created time.Time

	Limits Limits

	To Action
}

// PathKind is how a path is compared.
type PathKind uint8

// The kinds of paths, the most specific first.
const (
	Exact   PathKind = iota // the whole path
	Pattern                 // a * stands for any characters
	Prefix                  // the first elements of the path
)

func (k PathKind) String() string {
	switch k {
	case Exact:
		return "Exact"
	case Pattern:
		return "Pattern"
	case Prefix:
		return "Prefix"
	}
	return "unknown"
}

// Path is what a request's path has to be.
type Path struct {
	Kind  PathKind
	Value string
}

// Backend is the port of a Service.
type Backend struct {
	Namespace, Service string
	Port               string // its name, or its number in digits
}

// Weighted is a Backend with its share of the requests.
type Weighted struct {
	Backend Backend
	Weight  int // 0: none
}

// Action is what is done with a request.
type Action struct {
	Backends []Weighted
}

// Table leads requests to rules. The zero Table leads none.
type Table struct {
	exact    map[string]*paths
	wildcard map[string]*paths // by the name below the star
	any      *paths
	fallback *Rule
}

// paths are the rules of one host.
type paths struct {
	exact    map[string]*Rule
	patterns []pattern
	prefix   map[string]*Rule // without a slash at the end
}

type pattern struct {
	re   *regexp.Regexp
	rule *Rule
}

// New makes a Table. The fallback, if there is one, takes what no rule does.
func New(rules []Rule, fallback *Rule) *Table {
	t := &Table{exact: map[string]*paths{}, wildcard: map[string]*paths{}, any: newPaths(), fallback: fallback}
	sorted := make([]*Rule, len(rules))
	for i := range rules {
		sorted[i] = &rules[i]
	}
	slices.SortStableFunc(sorted, compare)
	for _, r := range sorted {
		t.host(r.Host).add(r)
	}
	return t
}

// compare orders rules of the same host and path.
func compare(a, b *Rule) int {
	return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.Origin, b.Origin))
}

func newPaths() *paths { return &paths{exact: map[string]*Rule{}, prefix: map[string]*Rule{}} }

func (t *Table) host(name string) *paths {
	if name == "" {
		return t.any
	}
	hosts := t.exact
	if below, ok := strings.CutPrefix(name, "*."); ok {
		hosts, name = t.wildcard, below
	}
	p := hosts[name]
	if p == nil {
		p = newPaths()
		hosts[name] = p
	}
	return p
}

// add takes the rules of a path in their order: the first is the one that counts.
func (p *paths) add(r *Rule) {
	first := func(rules map[string]*Rule, path string) {
		if rules[path] == nil {
			rules[path] = r
		}
	}
	switch r.Path.Kind {
	case Exact:
		first(p.exact, r.Path.Value)
	case Pattern:
		p.patterns = append(p.patterns, pattern{compile(r.Path.Value), r})
		slices.SortStableFunc(p.patterns, func(a, b pattern) int { return -cmp.Compare(letters(a.rule), letters(b.rule)) })
	case Prefix:
		first(p.prefix, strings.TrimSuffix(r.Path.Value, "/"))
	}
}

// letters is how much of a path a pattern fixes.
func letters(r *Rule) int { return len(strings.ReplaceAll(r.Path.Value, "*", "")) }

func compile(glob string) *regexp.Regexp {
	parts := strings.Split(glob, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$")
}

// Find returns the rule of a request, or nil. The host is the request's without its port.
func (t *Table) Find(r *http.Request, host string) *Rule {
	if t == nil {
		return nil
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if rule := t.exact[host].find(r); rule != nil {
		return rule
	}
	if _, below, ok := strings.Cut(host, "."); ok {
		if rule := t.wildcard[below].find(r); rule != nil {
			return rule
		}
	}
	if rule := t.any.find(r); rule != nil {
		return rule
	}
	return t.fallback
}

func (p *paths) find(r *http.Request) *Rule {
	if p == nil {
		return nil
	}
	path := r.URL.Path
	if path == "" {
		path = "/"
	}
	if rule := p.exact[path]; rule != nil {
		return rule
	}
	for i := range p.patterns {
		if p.patterns[i].re.MatchString(path) {
			return p.patterns[i].rule
		}
	}
	for at := len(path); at >= 0; at = strings.LastIndexByte(path[:at], '/') {
		if rule := p.prefix[path[:at]]; rule != nil {
			return rule
		}
		if at == 0 {
			break
		}
	}
	return nil
}
