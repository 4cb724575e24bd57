package servicetest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
)

// Config says what to prove.
type Config struct {
	// New returns the Backend for the network namespace of a node. What it opens is closed by t.Cleanup. It is called once in Run.
	New func(t testing.TB, node *netns.NS) service.Backend

	// Lacks are the features that the Backend does not have. It has to refuse them with errors.ErrUnsupported: a feature that is neither served nor
	// refused fails.
	Lacks []Feature
}

// Feature is a part of service routing that a Backend may lack. Cluster IPs, with everything that belongs to them, are none: every Backend has them.
type Feature string

// The features.
const (
	ExternalIPs   Feature = "external IPs"
	LoadBalancers Feature = "load balancer addresses"
	SourceRanges  Feature = "load balancer source ranges"
	NodePorts     Feature = "node ports"
	ExternalLocal Feature = "externalTrafficPolicy Local"
	Affinity      Feature = "session affinity"
	Localhost     Feature = "node ports on localhost"
)

func (f Feature) String() string { return string(f) }

// row is one line of the suite.
type row struct {
	name  string
	needs Feature // empty: every Backend has it
	state func(l *lab) service.State
	check func(t *testing.T, l *lab) // after state was applied
}

func rows() []row {
	return slices.Concat(clusterIPRows(), refusalRows(), changeRows(), policyRows(), externalRows(), nodePortRows(), localRows(), choiceRows())
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	base := newLab(t, c)
	for i, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			for _, fam := range []service.IPFamily{service.IPv4, service.IPv6} {
				t.Run(string(fam), func(t *testing.T) { base.row(t, r, i, fam, slices.Contains(c.Lacks, r.needs)) })
			}
		})
	}
	t.Run("leaves nothing", func(t *testing.T) {
		if _, err := base.proxy.Sync(base.ctx(t), service.State{}); err != nil {
			t.Fatal(err)
		}
		l := base.in(0, service.IPv4)
		nstest.Unanswered(t, base.pods[client].NS, "tcp", l.vip(0, 80)) // it was served
	})
}

// row runs one row in one family, on a node that serves nothing.
func (l *lab) row(t *testing.T, r row, n int, fam service.IPFamily, lacks bool) {
	t.Helper()
	in := l.in(n, fam)
	if _, err := in.proxy.Sync(in.ctx(t), service.State{}); err != nil {
		t.Fatalf("serve nothing: %v", err)
	}
	_, err := in.proxy.Sync(in.ctx(t), r.state(in))
	switch {
	case lacks && err == nil:
		t.Fatalf("the Backend lacks %s and took them all the same", r.needs)
	case lacks && !errors.Is(err, errors.ErrUnsupported):
		t.Fatalf("the Backend lacks %s and has to say so with errors.ErrUnsupported, not: %v", r.needs, err)
	case lacks:
		return
	case err != nil:
		t.Fatalf("sync: %v", err)
	}
	r.check(t, in)
}

// ctx bounds one call.
func (l *lab) ctx(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// sync serves s and nothing else.
func (l *lab) sync(t *testing.T, s service.State) {
	t.Helper()
	if _, err := l.proxy.Sync(l.ctx(t), s); err != nil {
		t.Fatalf("sync: %v", err)
	}
}

// update applies a change.
func (l *lab) update(t *testing.T, c service.Changes) {
	t.Helper()
	if _, err := l.proxy.Update(l.ctx(t), c); err != nil {
		t.Fatalf("update: %v", err)
	}
}
