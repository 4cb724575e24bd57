package proxy

import (
	"slices"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Policy says who may connect to a pod. The zero Policy lets in whoever has an
// identity of the trust domain, and nobody in clear.
type Policy struct {
	// Permissive are the ports that also take connections in clear, which are
	// then not authorized.
	Permissive []uint16

	// Allow are the identities that may connect to a port: SPIFFE IDs, in whose
	// path a * stands for one element. Key 0 is for ports without an entry. A
	// port with neither is open to the trust domain.
	Allow map[uint16][]string
}

func (p *Policy) permissive(port uint16) bool { return slices.Contains(p.Permissive, port) }

func (p *Policy) allows(port uint16, id spiffeid.ID) bool {
	list, ok := p.Allow[port]
	if !ok {
		if list, ok = p.Allow[0]; !ok {
			return true
		}
	}
	return slices.ContainsFunc(list, func(pattern string) bool { return matches(pattern, id.String()) })
}

func matches(pattern, id string) bool {
	for {
		want, restWant, moreWant := strings.Cut(pattern, "/")
		have, restHave, moreHave := strings.Cut(id, "/")
		if want != have && (want != "*" || have == "") || moreWant != moreHave {
			return false
		}
		if !moreWant {
			return true
		}
		pattern, id = restWant, restHave
	}
}
