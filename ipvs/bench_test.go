//go:build linux

package ipvs_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// many returns n services with three destinations each.
func many(n int) ipvs.State {
	s := ipvs.State{Services: make([]ipvs.Service, n)}
	for i := range s.Services {
		a := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		s.Services[i] = ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.AddrPortFrom(a, 80)}, Scheduler: ipvs.RoundRobin}
		for d := range 3 {
			to := netip.AddrFrom4([4]byte{10, byte(100 + d), byte(i >> 8), byte(i)})
			s.Services[i].Destinations = append(s.Services[i].Destinations, ipvs.Destination{Address: netip.AddrPortFrom(to, 8080), Weight: 1})
		}
	}
	return s.Canonical()
}

// runs are the times of some runs. Of two kinds that took turns the medians are compared, and the shortest: what a busy machine adds to all of
// them says nothing about the code.
type runs []time.Duration

func (r *runs) run(f func()) {
	start := time.Now()
	f()
	*r = append(*r, time.Since(start))
}

func (r runs) median() time.Duration {
	sorted := slices.Sorted(slices.Values(r))
	return sorted[len(sorted)/2]
}

// compare reports how many times other r takes.
func (r runs) compare(b *testing.B, unit string, other runs) {
	b.ReportMetric(r.over(other), unit)
	b.ReportMetric(float64(slices.Min(r))/float64(slices.Min(other)), unit+"-best")
}

func (r runs) over(other runs) float64 { return float64(r.median()) / float64(other.median()) }

// BenchmarkUnchanged compares Sync that finds nothing to do with a bare listing of all services and destinations.
func BenchmarkUnchanged(b *testing.B) {
	nstest.Require(b, nstest.IPVS)
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns := nstest.New(b)
			c := newClient(b, ns, ipvs.Everything())
			state := many(n)
			ctx := context.Background()
			_, err := c.Sync(ctx, state)
			require.NoError(b, err)
			floor := ipvs.NewFloor(b, ns, state)
			var ours, bare runs
			for b.Loop() {
				ours.run(func() {
					p, err := c.Sync(ctx, state)
					require.NoError(b, err)
					require.True(b, p.Empty())
				})
				bare.run(func() { floor.Dump(b) })
			}
			ours.compare(b, "x-floor", bare)
			b.ReportMetric(float64(ours.median().Microseconds())/float64(n), "us/service")
		})
	}
}

// BenchmarkOneDestination changes one destination's weight among 10,000 services. The floor is one bare round trip of the same request.
func BenchmarkOneDestination(b *testing.B) {
	nstest.Require(b, nstest.IPVS)
	ns := nstest.New(b)
	c := newClient(b, ns, ipvs.Everything())
	state := many(10000)
	ctx := context.Background()
	_, err := c.Sync(ctx, state)
	require.NoError(b, err)
	s := state.Services[5000]
	s.Destinations = append([]ipvs.Destination(nil), s.Destinations...)
	floor := ipvs.NewFloor(b, ns, ipvs.State{})
	var ours, bare runs
	change := ipvs.Change{Set: []ipvs.Service{s}}
	for b.Loop() {
		s.Destinations[1].Weight++
		ours.run(func() {
			p, err := c.Update(ctx, change)
			if err != nil || p.Empty() {
				b.Fatal(p, err)
			}
		})
		bare.run(func() { floor.SetDestination(b, s.Key, s.Destinations[1]) })
	}
	ours.compare(b, "x-floor", bare)
	b.ReportMetric(testing.AllocsPerRun(100, func() {
		s.Destinations[1].Weight++
		if _, err := c.Update(ctx, change); err != nil {
			b.Fatal(err)
		}
	}), "allocs/change")
}
