//go:build linux

package ipvs_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

func (l *lab) service(v6 bool, p ipvs.Protocol, s ipvs.Scheduler, weights ...uint32) ipvs.Service {
	return ipvs.Service{Key: ipvs.Key{Protocol: p, Address: vip(v6, 80)}, Scheduler: s, Destinations: l.masqueraded(v6, weights...)}
}

// TestSchedulers sends connections through every scheduler and looks at who got them.
func TestSchedulers(t *testing.T) {
	l := newLab(t, 3)
	exact := func(a, b, c int) func(*testing.T, map[string]int) {
		return func(t *testing.T, got map[string]int) {
			t.Helper()
			want := map[string]int{}
			for name, n := range map[string]int{"a": a, "b": b, "c": c} {
				if n > 0 {
					want[name] = n
				}
			}
			require.Equal(t, want, got)
		}
	}
	onlyOne := func(t *testing.T, got map[string]int) {
		t.Helper()
		require.Len(t, got, 1, "one client, one server")
	}
	someone := func(t *testing.T, got map[string]int) {
		t.Helper()
		require.NotEmpty(t, got)
		require.Zero(t, got["c"], "weight 0 gets nothing")
	}
	tests := []struct {
		scheduler ipvs.Scheduler
		weights   []uint32
		check     func(*testing.T, map[string]int)
	}{
		{ipvs.RoundRobin, []uint32{1, 5, 1}, exact(4, 4, 4)},
		{ipvs.RoundRobin, []uint32{1, 0, 1}, exact(6, 0, 6)},
		{ipvs.WeightedRoundRobin, []uint32{3, 2, 1}, exact(6, 4, 2)},
		{ipvs.WeightedFailover, []uint32{1, 9, 3}, exact(0, 12, 0)},
		{ipvs.SourceHashing, []uint32{1, 1, 1}, onlyOne},
		{ipvs.DestinationHashing, []uint32{1, 1, 1}, onlyOne},
		{ipvs.Maglev, []uint32{1, 1, 1}, onlyOne},
		{ipvs.LocalityBasedLeastConnection, []uint32{1, 1, 0}, someone},
		{ipvs.LocalityBasedLeastConnectionReplication, []uint32{1, 1, 0}, someone},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.scheduler, test.weights), func(t *testing.T) {
			families(t, func(t *testing.T, v6 bool) {
				l.sync(t) // a service starts from the beginning
				l.sync(t, l.service(v6, ipvs.TCP, test.scheduler, test.weights...))
				test.check(t, l.spread(t, "tcp", vip(v6, 80), 12))
			})
		})
	}
}

// TestCountingSchedulers keeps its connections open, because these schedulers count them.
func TestCountingSchedulers(t *testing.T) {
	l := newLab(t, 3)
	for _, test := range []struct {
		scheduler ipvs.Scheduler
		weights   []uint32
		want      map[string]int
	}{
		{ipvs.LeastConnection, []uint32{1, 1, 1}, map[string]int{"a": 4, "b": 4, "c": 4}},
		{ipvs.WeightedLeastConnection, []uint32{2, 1, 0}, map[string]int{"a": 8, "b": 4}},
		{ipvs.ShortestExpectedDelay, []uint32{2, 1, 0}, map[string]int{"a": 8, "b": 4}},
		{ipvs.NeverQueue, []uint32{2, 1, 0}, map[string]int{"a": 8, "b": 4}},
		{ipvs.WeightedOverflow, []uint32{9, 3, 1}, map[string]int{"a": 10, "b": 2}},
	} {
		t.Run(test.scheduler.String(), func(t *testing.T) {
			families(t, func(t *testing.T, v6 bool) {
				l.sync(t)
				l.sync(t, l.service(v6, ipvs.TCP, test.scheduler, test.weights...))
				got := map[string]int{}
				for range 12 {
					f, err := nstest.Dial(t, l.client, "tcp", vip(v6, 80))
					require.NoError(t, err)
					a, err := f.Ask()
					require.NoError(t, err)
					got[a.Server]++
				}
				require.Equal(t, test.want, got)
			})
		})
	}
}

// TestHashPort: with the client's port in the hash one client reaches several servers.
func TestHashPort(t *testing.T) {
	l := newLab(t, 3)
	for _, scheduler := range []ipvs.Scheduler{ipvs.SourceHashing, ipvs.Maglev} {
		families(t, func(t *testing.T, v6 bool) {
			s := l.service(v6, ipvs.TCP, scheduler)
			s.HashPort = true
			l.sync(t, s)
			require.Greater(t, len(l.spread(t, "tcp", vip(v6, 80), 24)), 1)
			s.HashPort = false
			l.sync(t, s)
			before := l.spread(t, "tcp", vip(v6, 80), 4)
			require.Len(t, before, 1)
			for i := range s.Destinations { // the one that the hash names is drained
				if before[label(i)] > 0 {
					s.Destinations[i].Weight = 0
				}
			}
			s.Fallback = true
			l.sync(t, s)
			after := l.spread(t, "tcp", vip(v6, 80), 4)
			require.Len(t, after, 1)
			require.NotEqual(t, before, after, "another takes over")
		})
	}
}

// TestPersistence: a client stays with its server, and every port counts with port 0.
func TestPersistence(t *testing.T) {
	l := newLab(t, 3)
	families(t, func(t *testing.T, v6 bool) {
		s := l.service(v6, ipvs.TCP, ipvs.RoundRobin)
		s.Persistence.Timeout = time.Minute
		every := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.UDP, Address: vip(v6, 0)}, Scheduler: ipvs.RoundRobin, Persistence: s.Persistence}
		for _, d := range s.Destinations {
			every.Destinations = append(every.Destinations, ipvs.Destination{Address: netip.AddrPortFrom(d.Address.Addr(), 0), Weight: 1})
		}
		l.sync(t, s, every)
		require.Len(t, l.spread(t, "tcp", vip(v6, 80), 6), 1)
		require.Len(t, l.spread(t, "udp", vip(v6, serverPort), 6), 1)
		stats, err := l.ipvs.Stats(t.Context(), s.Key)
		require.NoError(t, err)
		var persistent uint32
		for _, d := range stats[0].Destinations {
			persistent += d.Persistent
		}
		require.Equal(t, uint32(1), persistent)
	})
}

// TestMark balances by firewall mark: two ports are one service.
func TestMark(t *testing.T) {
	l := newLab(t, 2)
	nstest.Run(t, l.director, "nft", "add table inet marks; add chain inet marks in { type filter hook prerouting priority mangle; };"+
		"add rule inet marks in ip daddr 10.96.0.10 tcp dport { 80, 8080 } meta mark set 7; add rule inet marks in ip6 daddr fd96::10 tcp dport { 80, 8080 } meta mark set 7")
	families(t, func(t *testing.T, v6 bool) {
		family := ipvs.IPv4
		if v6 {
			family = ipvs.IPv6
		}
		l.sync(t, ipvs.Service{Key: ipvs.Key{Mark: 7, Family: family}, Scheduler: ipvs.RoundRobin, Destinations: l.masqueraded(v6)})
		got := l.spread(t, "tcp", vip(v6, 80), 2)
		for server, n := range l.spread(t, "tcp", vip(v6, serverPort), 2) {
			got[server] += n
		}
		require.Equal(t, map[string]int{"a": 2, "b": 2}, got)
	})
}

// TestThresholds: a server at its upper threshold gets nothing new until it is below the lower one.
func TestThresholds(t *testing.T) {
	l := newLab(t, 2)
	families(t, func(t *testing.T, v6 bool) {
		s := l.service(v6, ipvs.TCP, ipvs.WeightedFailover, 9, 1)
		s.Destinations[0].Upper, s.Destinations[0].Lower = 2, 1
		l.sync(t)
		l.sync(t, s)
		var flows []*nstest.Flow
		for i, want := range []string{"a", "a", "b", "b"} {
			f, err := nstest.Dial(t, l.client, "tcp", vip(v6, 80))
			require.NoError(t, err)
			a, err := f.Ask()
			require.NoError(t, err)
			require.Equal(t, want, a.Server, "connection %d", i)
			flows = append(flows, f)
		}
		for _, f := range flows {
			require.NoError(t, f.Close())
		}
	})
}

// TestStats compares counters with what was sent.
func TestStats(t *testing.T) {
	l := newLab(t, 2)
	families(t, func(t *testing.T, v6 bool) {
		s := l.service(v6, ipvs.TCP, ipvs.RoundRobin)
		l.sync(t)
		l.sync(t, s)
		flow, err := nstest.Dial(t, l.client, "tcp", vip(v6, 80))
		require.NoError(t, err)
		_, err = flow.Ask()
		require.NoError(t, err)
		l.spread(t, "tcp", vip(v6, 80), 5)
		var stats []ipvs.ServiceStats
		require.Eventually(t, func() bool {
			stats, err = l.ipvs.Stats(t.Context())
			return err == nil && len(stats) == 1 && stats[0].Connections == 6 && stats[0].ConnectionRate > 0
		}, 10*time.Second, 100*time.Millisecond)
		require.Equal(t, s.Key, stats[0].Key)
		require.Len(t, stats[0].Destinations, 2)
		var active uint32
		var bytes uint64
		for _, d := range stats[0].Destinations {
			require.Equal(t, uint64(3), d.Connections)
			require.Positive(t, d.InPackets)
			require.Positive(t, d.OutBytes)
			active += d.Active
			bytes += d.InBytes
		}
		require.Equal(t, uint32(1), active)
		require.Equal(t, stats[0].InBytes, bytes)
		line := statsLine(t, nstest.Run(t, l.director, "ipvsadm", "-Ln", "--stats", "--exact"))
		require.Equal(t, []uint64{stats[0].Connections, stats[0].InPackets, stats[0].OutPackets, stats[0].InBytes, stats[0].OutBytes}, line)

		require.NoError(t, flow.Close())
		require.Eventually(t, func() bool { // the last packets are counted late
			require.NoError(t, l.ipvs.Zero(t.Context(), s.Key))
			stats, err = l.ipvs.Stats(t.Context(), s.Key)
			return err == nil && stats[0].Connections == 0 && stats[0].InBytes == 0
		}, 10*time.Second, 100*time.Millisecond)
		require.NoError(t, l.ipvs.Zero(t.Context()))
	})
}
