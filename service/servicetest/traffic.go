package servicetest

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func ask(ns *netns.NS, network string, to netip.AddrPort) (nstest.Answer, error) {
	return nstest.Ask(ns, network, to)
}

// tries is how often a spread over that many equal endpoints is sampled: that one of them gets nothing of it has odds of one in 10^10.
func tries(servers int) int {
	switch servers {
	case 1:
		return 8
	case 2:
		return 34
	}
	return 60
}

// answers opens that many connections and returns how many each server answered.
func answers(t *testing.T, from place, network string, to netip.AddrPort, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		got[nstest.Reaches(t, from.ns, network, to).Server]++
	}
	return got
}

// spreads requires that connections from a place reach exactly these servers, each of them.
func spreads(t *testing.T, from place, network string, to netip.AddrPort, servers ...string) {
	t.Helper()
	n := tries(len(servers))
	got := answers(t, from, network, to, n)
	slices.Sort(servers)
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, servers) {
		t.Fatalf("%s from %s to %s: answered by %v, want each of %v", network, from.name, to, got, servers)
	}
	for _, s := range servers {
		if got[s] < n/len(servers)/6 {
			t.Fatalf("%s from %s to %s: not spread: %v", network, from.name, to, got)
		}
	}
}

// refuses requires that TCP and UDP are turned away at once.
func refuses(t *testing.T, from place, to netip.AddrPort) {
	t.Helper()
	for _, network := range []string{"tcp", "udp"} {
		refusesOne(t, from, network, to)
	}
}

func refusesOne(t *testing.T, from place, network string, to netip.AddrPort) {
	t.Helper()
	t.Logf("%s from %s to %s: want refusal", network, from.name, to)
	nstest.Refused(t, from.ns, network, to)
}

// swallows requires that TCP and UDP from each of the places meet silence. The sender on the node itself is told that its datagram was dropped: that is no
// answer either.
func swallows(t *testing.T, to netip.AddrPort, places ...place) {
	t.Helper()
	var waits sync.WaitGroup
	faults := make(chan error, 2*len(places))
	for _, from := range places {
		t.Logf("from %s to %s: want silence", from.name, to)
		waits.Go(func() { faults <- nstest.Silent(from.ns, "tcp", to) })
		waits.Go(func() {
			if !from.own {
				faults <- nstest.Silent(from.ns, "udp", to)
			} else if a, err := ask(from.ns, "udp", to); !errors.Is(err, syscall.EPERM) {
				faults <- fmt.Errorf("udp from %s to %s: want a datagram that is dropped, not %+v, %w", from.name, to, a, err)
			}
		})
	}
	waits.Wait()
	close(faults)
	for err := range faults {
		if err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// answeredBy requires that a UDP socket that stays open is answered by one of these, or by nobody when there is none. A datagram may be lost on the way,
// and a refusal of the one before is reported late: it asks a few times.
func answeredBy(t *testing.T, flow *nstest.Flow, from place, when string, servers ...string) {
	t.Helper()
	var last error
	for range 5 {
		a, err := flow.Ask()
		if last = err; err != nil {
			continue
		}
		if !slices.Contains(servers, a.Server) {
			t.Fatalf("%s, udp from %s: answered by %s, want one of %v", when, from.name, a.Server, servers)
		}
		return
	}
	if len(servers) > 0 {
		t.Fatalf("%s, udp from %s: not answered by %v: %v", when, from.name, servers, last)
	}
}
