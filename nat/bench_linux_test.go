package nat_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// cpu is the processor time that this process and its children have used, in
// user space and in the kernel.
func cpu(b testing.TB) time.Duration {
	b.Helper()
	var sum time.Duration
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		require.NoError(b, unix.Getrusage(who, &u))
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

func cost(b testing.TB, f func()) time.Duration {
	b.Helper()
	before := cpu(b)
	f()
	return cpu(b) - before
}

// BenchmarkLoad compares the processor time of a cold load with that of the
// kernel's part alone (the same messages, encoded before) and with the layout
// of a chain and an anonymous map a service that kube-proxy's nftables mode
// has, loaded by nft.
func BenchmarkLoad(b *testing.B) {
	needs(b)
	nstest.Require(b, nstest.Tool("nft"))
	for _, n := range []int{1000, 10000} {
		b.Run(fmt.Sprintf("%dx3", n), func(b *testing.B) {
			if n > 1000 && testing.Short() {
				b.Skip("the peer takes a quarter of a minute")
			}
			state := many(n)
			conn, err := nft.Open(nstest.New(b).Fd())
			require.NoError(b, err)
			defer conn.Close()
			batch := nat.Floor(state)
			floor := cost(b, func() { require.NoError(b, conn.Commit(context.Background(), batch, 0)) })
			file := filepath.Join(b.TempDir(), "peer.nft")
			require.NoError(b, os.WriteFile(file, []byte(chainPerService(state)), 0o600))
			ns := nstest.New(b)
			peer := cost(b, func() { nstest.Run(b, ns, "nft", "-f", file) })
			var ours time.Duration
			for b.Loop() {
				b.StopTimer()
				c := client(b, nstest.New(b))
				b.StartTimer()
				ours += cost(b, func() {
					_, err := c.Sync(context.Background(), state)
					require.NoError(b, err)
				})
			}
			ours /= time.Duration(b.N)
			b.ReportMetric(float64(ours)/1e6, "cpu-ms")
			b.ReportMetric(float64(peer)/1e6, "peer-ms")
			b.ReportMetric(float64(peer)/float64(ours), "peer/ours")
			b.ReportMetric(float64(ours)/float64(floor), "ours/floor")
		})
	}
}

// chainPerService is the peer's ruleset: per service a chain with an anonymous
// map, per endpoint a chain.
func chainPerService(s nat.State) string {
	var chains, elements strings.Builder
	for i, f := range s.Forwards {
		fmt.Fprintf(&chains, "add chain ip peer service-%d\n", i)
		var hops []string
		for j, t := range f.To {
			fmt.Fprintf(&chains, "add chain ip peer endpoint-%d-%d\n", i, j)
			fmt.Fprintf(&chains, "add rule ip peer endpoint-%d-%d ip saddr %s jump mark-for-masquerade\n", i, j, t.Addr)
			fmt.Fprintf(&chains, "add rule ip peer endpoint-%d-%d meta l4proto tcp dnat to %s:%d\n", i, j, t.Addr, t.Port)
			hops = append(hops, fmt.Sprintf("%d : goto endpoint-%d-%d", j, i, j))
		}
		fmt.Fprintf(&chains, "add rule ip peer service-%d ip daddr %s tcp dport %d ip saddr != 10.0.0.0/8 jump mark-for-masquerade\n", i, f.Addr, f.Port)
		fmt.Fprintf(&chains, "add rule ip peer service-%d numgen random mod %d vmap { %s }\n", i, len(hops), strings.Join(hops, ", "))
		fmt.Fprintf(&elements, "add element ip peer service-ips { %s . tcp . %d : goto service-%d }\n", f.Addr, f.Port, i)
	}
	return `add table ip peer
add chain ip peer mark-for-masquerade
add rule ip peer mark-for-masquerade meta mark set meta mark or 0x4000
add map ip peer service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add chain ip peer prerouting { type nat hook prerouting priority dstnat; }
add rule ip peer prerouting ip daddr . meta l4proto . th dport vmap @service-ips
` + chains.String() + elements.String()
}

// BenchmarkChange reports how much dearer one change is with 30,000 forwards
// than with 1,000, by the median.
func BenchmarkChange(b *testing.B) {
	needs(b)
	medians := map[int]time.Duration{}
	for _, n := range []int{1000, 30000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := client(b, nstest.New(b))
			state := many(n)
			_, err := c.Sync(within(b), state)
			require.NoError(b, err)
			ctx := context.Background()
			var took []time.Duration
			for i := 0; b.Loop(); i++ {
				f := state.Forwards[i%n]
				if i/n%2 == 0 {
					f.To = f.To[:2]
				}
				start := time.Now()
				if _, err := c.Update(ctx, nat.Change{Set: []nat.Forward{f}}); err != nil {
					b.Fatal(err)
				}
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			medians[n] = took[len(took)/2]
			b.ReportMetric(float64(medians[n])/1e3, "p50-us")
			if small := medians[1000]; small > 0 && n > 1000 {
				b.ReportMetric(float64(medians[n])/float64(small), "30k/1k")
			}
		})
	}
}

// BenchmarkRestart reads a table of 10,000 forwards back and finds nothing to
// do.
func BenchmarkRestart(b *testing.B) {
	needs(b)
	ns := nstest.New(b)
	state := many(10000)
	first := client(b, ns)
	_, err := first.Sync(within(b), state)
	require.NoError(b, err)
	require.NoError(b, first.Close())
	for b.Loop() {
		c := client(b, ns)
		p, err := c.Sync(within(b), state)
		require.NoError(b, err)
		require.True(b, p.Empty())
		require.NoError(b, c.Close())
	}
}

// BenchmarkLoadWide loads 5,000 forwards of 50 targets each.
func BenchmarkLoadWide(b *testing.B) {
	needs(b)
	state := many(5000)
	for i := range state.Forwards {
		f := &state.Forwards[i]
		f.To = nil
		for j := range 50 {
			n := i*50 + j
			f.To = append(f.To, nat.Target{Addr: netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}), Port: 8080})
		}
	}
	var ours time.Duration
	for b.Loop() {
		b.StopTimer()
		c := client(b, nstest.New(b))
		b.StartTimer()
		ours += cost(b, func() {
			_, err := c.Sync(context.Background(), state)
			require.NoError(b, err)
		})
	}
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	b.ReportMetric(float64(ours)/float64(b.N)/1e6, "cpu-ms")
	b.ReportMetric(float64(u.Maxrss)/1024, "max-rss-MB")
}
