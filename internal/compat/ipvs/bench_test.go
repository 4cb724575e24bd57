//go:build linux

package ipvs_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// way is one of the ways to program virtual servers. prepare opens what it needs in the namespace; the function that it returns is what is measured.
type way struct {
	name    string
	prepare func(b *testing.B, ns *netns.NS, s ipvs.State) (program func() error)
}

func ways() []way {
	return []way{
		{"podplumb", podplumb},
		{"moby", moby},
		{"cloudflare", cloudflare},
		{"execute", execute},
		{"ipvsadm", ipvsadm},
		{"floor", floor},
	}
}

// BenchmarkProgram loads 1,000 services with three destinations each in every way, in turn and each time into a fresh namespace: the kernel remembers removed
// destinations for minutes and looks through them. For each way it reports requests a second (the median of the runs) and allocations a request; then the ratios:
// x-moby is our rate over moby's, and so on. What every way programmed is compared with what was wanted.
func BenchmarkProgram(b *testing.B) {
	nstest.Require(b, nstest.IPVS)
	state := services(1000)
	requests := 4 * len(state.Services)
	took, allocated := map[string][]time.Duration{}, map[string]uint64{}
	rounds := 0
	for b.Loop() {
		for i := range ways() {
			w := ways()[(i+rounds)%len(ways())] // none always comes after the same
			ns := nstest.New(b)
			program := w.prepare(b, ns, state)
			runtime.GC() // nobody cleans up after another
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err := program()
			took[w.name] = append(took[w.name], time.Since(start))
			runtime.ReadMemStats(&after)
			allocated[w.name] += after.Mallocs - before.Mallocs
			require.NoError(b, err, w.name)
			requireState(b, ns, state, w.name)
		}
		rounds++
	}
	rate := map[string]float64{}
	for _, w := range ways() {
		slices.Sort(took[w.name])
		rate[w.name] = float64(requests) / took[w.name][len(took[w.name])/2].Seconds()
		b.ReportMetric(rate[w.name], w.name+"-op/s")
		if w.name != "ipvsadm" { // it is another process
			b.ReportMetric(float64(allocated[w.name])/float64(requests*rounds), w.name+"-allocs/op")
		}
		if w.name != "podplumb" {
			b.ReportMetric(rate["podplumb"]/rate[w.name], "x-"+w.name)
		}
	}
	b.ReportMetric(float64(rounds), "rounds")
}

// services returns n services with three masqueraded destinations each.
func services(n int) ipvs.State {
	var s ipvs.State
	for i := range n {
		at := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		v := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.AddrPortFrom(at, 80)}, Scheduler: ipvs.RoundRobin}
		for d := range 3 {
			to := netip.AddrFrom4([4]byte{10, byte(100 + d), byte(i >> 8), byte(i)})
			v.Destinations = append(v.Destinations, ipvs.Destination{Address: netip.AddrPortFrom(to, 8080), Weight: 1})
		}
		s.Services = append(s.Services, v)
	}
	return s.Canonical()
}

// requireState compares the kernel with s.
func requireState(b *testing.B, ns *netns.NS, s ipvs.State, who string) {
	b.Helper()
	c, err := ipvs.New(ipvs.Config{NetNS: ns, Owns: ipvs.Everything()})
	require.NoError(b, err)
	defer c.Close()
	have, err := c.Read(context.Background())
	require.NoError(b, err)
	require.True(b, ipvs.Diff(s, have).Empty(), "%s:\n%s", who, ipvs.Diff(s, have))
}

func podplumb(b *testing.B, ns *netns.NS, s ipvs.State) func() error {
	c, err := ipvs.New(ipvs.Config{NetNS: ns, Owns: ipvs.Everything()})
	require.NoError(b, err)
	b.Cleanup(func() { _ = c.Close() })
	return func() error {
		_, err := c.Sync(context.Background(), s)
		return err
	}
}

// ipvsadm restores a saved file, as its users do.
func ipvsadm(b *testing.B, ns *netns.NS, s ipvs.State) func() error {
	var rules strings.Builder
	for _, v := range s.Services {
		fmt.Fprintf(&rules, "-A -t %s -s %s\n", v.Address, v.Scheduler)
		for _, d := range v.Destinations {
			fmt.Fprintf(&rules, "-a -t %s -r %s -m -w %d\n", v.Address, d.Address, d.Weight)
		}
	}
	file := filepath.Join(b.TempDir(), "rules")
	require.NoError(b, os.WriteFile(file, []byte(rules.String()), 0o600))
	return func() error {
		out, err := nstest.TryRun(b, ns, "/bin/sh", "-c", "ipvsadm -R <"+file)
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	}
}
