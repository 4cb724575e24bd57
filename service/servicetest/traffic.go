package servicetest

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"syscall"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func ask(ns *netns.NS, network string, to netip.AddrPort) (nstest.Answer, error) {
	return nstest.Ask(ns, network, to)
}

// tries is how often a spread is sampled: that one of three equal endpoints gets nothing of it has odds of one in 10^10.
const tries = 60

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
	n := tries
	if len(servers) == 1 {
		n = 8
	}
	got := answers(t, from, network, to, n)
	slices.Sort(servers)
	if have := slices.Sorted(maps.Keys(got)); !slices.Equal(have, servers) {
		t.Fatalf("%s from %s to %s: answered by %v, want each of %v", network, from.name, to, got, servers)
	}
	for _, s := range servers {
		if got[s] < n/len(servers)/4 {
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

// swallows requires that TCP and UDP meet silence. The sender on the node itself is told that its datagram was dropped: that is no answer either.
func swallows(t *testing.T, from place, to netip.AddrPort) {
	t.Helper()
	t.Logf("from %s to %s: want silence", from.name, to)
	nstest.TimesOut(t, from.ns, "tcp", to)
	if !from.own {
		nstest.TimesOut(t, from.ns, "udp", to)
		return
	}
	if a, err := ask(from.ns, "udp", to); !errors.Is(err, syscall.EPERM) {
		t.Fatalf("udp from %s to %s: want a datagram that is dropped, not %+v, %v", from.name, to, a, err)
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
