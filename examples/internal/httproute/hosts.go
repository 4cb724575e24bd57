package httproute

import "strings"

// Covers says whether a hostname of a listener or route includes a name. A name covers itself, *.name all names below it
// with any number of labels, and the empty hostname all.
func Covers(hostname, name string) bool {
	if hostname == "" {
		return true
	}
	if below, ok := strings.CutPrefix(hostname, "*"); ok { // .name
		return len(name) > len(below) && strings.HasSuffix(name, below)
	}
	return hostname == name
}

// Intersect returns the names that both a listener's hostname and a route's hostnames include: the more special of each two
// that overlap. None in the route and none in the listener is the one hostname that is empty; no overlap at all is nil.
// Names are in lower case.
func Intersect(listener string, route []string) []string {
	if len(route) == 0 {
		return []string{listener}
	}
	var both []string
	for _, name := range route {
		switch {
		case Covers(listener, name):
			both = append(both, name)
		case Covers(name, listener):
			both = append(both, listener)
		}
	}
	return both
}

// ByHost finds things by hostname, the most special first. The zero ByHost is empty.
type ByHost[T any] struct {
	exact    map[string]T
	wildcard map[string]T // by the name below the star
	all      *T
}

// Get returns what there is for exactly this hostname.
func (b *ByHost[T]) Get(hostname string) (T, bool) {
	if hostname == "" {
		if b.all == nil {
			var none T
			return none, false
		}
		return *b.all, true
	}
	if below, ok := strings.CutPrefix(hostname, "*."); ok {
		v, ok := b.wildcard[below]
		return v, ok
	}
	v, ok := b.exact[hostname]
	return v, ok
}

// Put has v be what is found for a hostname.
func (b *ByHost[T]) Put(hostname string, v T) {
	if hostname == "" {
		b.all = &v
		return
	}
	in := &b.exact
	if below, ok := strings.CutPrefix(hostname, "*."); ok {
		in, hostname = &b.wildcard, below
	}
	if *in == nil {
		*in = map[string]T{}
	}
	(*in)[hostname] = v
}

// Find returns what there is for the hostname that covers a host and is the most special.
func (b *ByHost[T]) Find(host string) (found T, ok bool) {
	b.each(host, func(v T) bool {
		found, ok = v, true
		return false
	})
	return found, ok
}

// each calls f with what covers a host, the most special first, until it returns false.
func (b *ByHost[T]) each(host string, f func(T) bool) {
	host = Host(host)
	if v, ok := b.exact[host]; ok && !f(v) {
		return
	}
	if len(b.wildcard) > 0 {
		for rest := host; ; {
			_, below, ok := strings.Cut(rest, ".")
			if !ok {
				break
			}
			if v, ok := b.wildcard[below]; ok && !f(v) {
				return
			}
			rest = below
		}
	}
	if b.all != nil {
		f(*b.all)
	}
}

// Host is a host as it is compared: in lower case and without a dot at the end.
func Host(host string) string { return strings.TrimSuffix(strings.ToLower(host), ".") }
