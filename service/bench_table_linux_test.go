package service_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
)

// cpu is the processor time of this process and of its children, in user
// space and in the kernel.
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
	runtime.GC()
	before := cpu(b)
	f()
	return cpu(b) - before
}

// wideState is n Services with that many endpoints each.
func wideState(n, endpoints int) service.State {
	s := service.State{PodRanges: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}}
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		svc := webService(name, bigClusterIP(i))
		svc.Spec.Selector = nil
		var ips []string
		for e := range endpoints {
			at := i*endpoints + e
			ips = append(ips, netip.AddrFrom4([4]byte{10, 128 + byte(at>>16), byte(at >> 8), byte(at)}).String())
		}
		s.Services = append(s.Services, svc)
		s.EndpointSlices = append(s.EndpointSlices, webSlice(name+"-1", name, ips...))
	}
	return s
}

// floorOf is the least that any layout writes: an element for every Service
// and for every endpoint, encoded before.
func floorOf(n, endpoints int) *nft.Batch {
	key := []nft.Expr{nft.IPDaddr, nft.MetaL4Proto, nft.ThDport}
	services := &nft.Set{Name: "services", Key: key, Data: []nft.Expr{nft.MetaMark}}
	targets := &nft.Set{Name: "targets", Key: append(slices.Clone(key), nft.Random(1<<16)), Data: []nft.Expr{nft.IPDaddr, nft.ThDport}}
	t := &nft.Table{Family: nft.FamilyInet, Name: "floor", Sets: []*nft.Set{services, targets}}
	var heads, hops []nft.Element
	for i := range n {
		k := nft.AppendPort(nft.AppendProto(nft.AppendAddr(nil, netip.MustParseAddr(bigClusterIP(i))), 6), 80)
		heads = append(heads, nft.Element{Key: k, Data: nft.AppendUint32(nil, 3)})
		for e := range endpoints {
			at := i*endpoints + e
			to := netip.AddrFrom4([4]byte{10, 128 + byte(at>>16), byte(at >> 8), byte(at)})
			hops = append(hops, nft.Element{Key: nft.AppendUint32(slices.Clone(k), uint32(e)), Data: nft.AppendPort(nft.AppendAddr(nil, to), 8080)})
		}
	}
	batch := nft.NewBatch()
	batch.AddTable(t)
	batch.AddElements(t, services, heads)
	batch.AddElements(t, targets, hops)
	return batch
}

func commitFloor(b testing.TB, batch *nft.Batch) time.Duration {
	b.Helper()
	conn, err := nft.Open(nstest.New(b).Fd())
	require.NoError(b, err)
	defer conn.Close()
	return cost(b, func() { require.NoError(b, conn.Commit(context.Background(), batch, 0)) })
}

// chainPerService is the peer, the layout of kube-proxy's nftables mode: for
// each Service a chain with an anonymous map, for each endpoint a chain.
func chainPerService(frontends []service.Frontend) string {
	var chains, elements strings.Builder
	for i, f := range frontends {
		if len(f.Endpoints) == 0 {
			continue
		}
		fmt.Fprintf(&chains, "add chain ip peer service-%d\n", i)
		var hops []string
		for j, e := range f.Endpoints {
			fmt.Fprintf(&chains, "add chain ip peer endpoint-%d-%d\n", i, j)
			fmt.Fprintf(&chains, "add rule ip peer endpoint-%d-%d ip saddr %s jump mark-for-masquerade\n", i, j, e.Addr.Addr())
			fmt.Fprintf(&chains, "add rule ip peer endpoint-%d-%d meta l4proto tcp dnat to %s\n", i, j, e.Addr)
			hops = append(hops, fmt.Sprintf("%d : goto endpoint-%d-%d", j, i, j))
		}
		fmt.Fprintf(&chains, "add rule ip peer service-%d ip daddr %s tcp dport %d ip saddr != 10.128.0.0/9 jump mark-for-masquerade\n", i, f.Addr, f.Port)
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

func peerLoad(b testing.TB, s service.State) (time.Duration, *netns.NS) {
	b.Helper()
	frontends, err := service.Resolve(s, nodeA)
	require.NoError(b, err)
	file := filepath.Join(b.TempDir(), "peer.nft")
	require.NoError(b, os.WriteFile(file, []byte(chainPerService(frontends)), 0o600))
	ns := nstest.New(b)
	return cost(b, func() { nstest.Run(b, ns, "nft", "-f", file) }), ns
}

// proxyOf is a proxy that has served s from nothing, and what that cost.
func proxyOf(b testing.TB, ns *netns.NS, s service.State) (*service.Proxy, time.Duration) {
	b.Helper()
	p := newProxy(b, service.NAT(natClient(b, ns)))
	return p, cost(b, func() {
		_, err := p.Sync(context.Background(), s)
		require.NoError(b, err)
	})
}

// BenchmarkServiceNAT measures what a node that serves many Services pays,
// each figure beside the peer's or the kernel's own in the same run, and
// prints them as a table. With PODPLUMB_PLOT set to a file, it draws the cold
// load of both layouts against the number of Services there.
func BenchmarkServiceNAT(b *testing.B) {
	nstest.Require(b, nstest.NFTables)
	nstest.Require(b, nstest.Tool("nft"))
	for b.Loop() {
		var t table
		t.wideLoad(b) // first, as it says how much memory was needed
		t.coldLoad(b)
		t.change(b)
		t.restart(b)
		t.connect(b)
		fmt.Print(t.String()) // a benchmark's log is cut short
	}
}

// table is what is printed.
type table struct{ rows [][5]string }

func (t *table) add(work, ours, peer, ratio, goal string) {
	t.rows = append(t.rows, [5]string{work, ours, peer, ratio, goal})
}

func (t *table) String() string {
	var out strings.Builder
	for _, r := range append([][5]string{{"work", "ours", "beside it", "ratio", "goal"}}, t.rows...) {
		fmt.Fprintf(&out, "%-46s | %-22s | %-28s | %-30s | %s\n", r[0], r[1], r[2], r[3], r[4])
	}
	return out.String()
}

func ms(d time.Duration) string { return fmt.Sprintf("%.1f ms", float64(d)/1e6) }
func us(d time.Duration) string { return fmt.Sprintf("%.1f us", float64(d)/1e3) }

func over(a, b time.Duration) float64 { return float64(a) / float64(b) }

// best is the least of a few tries: what else the machine does only adds.
func best(n int, f func() time.Duration) time.Duration {
	least := f()
	for range n - 1 {
		least = min(least, f())
	}
	return least
}

func (t *table) coldLoad(b *testing.B) {
	state := bigState(10_000)
	load := func(s service.State) time.Duration {
		return best(3, func() time.Duration {
			_, took := proxyOf(b, nstest.New(b), s)
			return took
		})
	}
	ours := load(state)
	floor := best(3, func() time.Duration { return commitFloor(b, floorOf(10_000, 3)) })
	b.ReportMetric(float64(ours)/1e6, "cold-cpu-ms")
	t.add("cold load 10k x 3, CPU", ms(ours), "kernel alone "+ms(floor), fmt.Sprintf("%.1f of the kernel's", over(ours, floor)), "<= 300 ms")
	if !testing.Short() {
		peer, _ := peerLoad(b, state)
		b.ReportMetric(over(peer, ours), "peer/ours")
		t.add("", "", "chain per service "+ms(peer), fmt.Sprintf("1/%.0f of the peer's", over(peer, ours)), "<= 1/40")
	}
	half, full := load(bigState(15_000)), load(bigState(30_000))
	b.ReportMetric(over(full, half), "30k/15k")
	t.add("cold load, 30k against 15k", ms(full), ms(half), fmt.Sprintf("%.2f", over(full, half)), "<= 2.5")
	plot(b, load)
}

func (t *table) wideLoad(b *testing.B) {
	state := wideState(5_000, 50)
	_, ours := proxyOf(b, nstest.New(b), state)
	var u unix.Rusage
	require.NoError(b, unix.Getrusage(unix.RUSAGE_SELF, &u))
	runtime.GC()
	floor := commitFloor(b, floorOf(5_000, 50))
	b.ReportMetric(float64(ours)/1e6, "wide-cpu-ms")
	t.add("cold load 5k x 50, CPU", ms(ours), "kernel alone "+ms(floor), fmt.Sprintf("%.1f of the kernel's", over(ours, floor)), "<= 2 s")
	t.add("  most memory, with the objects themselves", fmt.Sprintf("%d MB", u.Maxrss>>10), "", "", "<= 400 MB")
}

func (t *table) change(b *testing.B) {
	p50 := func(n int) time.Duration {
		p, _ := proxyOf(b, nstest.New(b), bigState(n))
		return median(500, func(i int) time.Duration {
			slice := bigSlice(i%900, 2+i/900%2)
			slice.Endpoints[0].Addresses[0] = netip.AddrFrom4([4]byte{10, 250, byte(i >> 8), byte(i)}).String()
			return timed(b, func() error {
				_, err := p.Update(context.Background(), service.Changes{EndpointSlices: []service.EndpointSlice{slice}})
				return err
			})
		})
	}
	small, mid, large := p50(1_000), p50(10_000), p50(30_000)
	floor := changeFloor(b, 10_000)
	b.ReportMetric(float64(mid)/1e3, "change-p50-us")
	b.ReportMetric(over(large, small), "30k/1k")
	t.add("one endpoint changes at 10k x 3, p50", us(mid), "kernel alone "+us(floor), fmt.Sprintf("%.1f of the kernel's", over(mid, floor)), "<= 300 us, kernel <= 50 us")
	t.add("  at 30k against 1k", us(large), us(small), fmt.Sprintf("%.2f", over(large, small)), "<= 2")
	if testing.Short() {
		return
	}
	state := bigState(10_000)
	_, ns := peerLoad(b, state)
	peer := median(5, func(i int) time.Duration {
		return timed(b, func() error {
			_, err := nstest.TryRun(b, ns, "nft", fmt.Sprintf("flush chain ip peer service-7; add rule ip peer service-7 numgen random mod %d vmap { %s }", 2,
				"0 : goto endpoint-7-0, 1 : goto endpoint-7-1"))
			return err
		})
	})
	b.ReportMetric(over(peer, mid), "change-peer/ours")
	t.add("", "", "chain per service, by nft "+ms(peer), fmt.Sprintf("1/%.0f of the peer's", over(peer, mid)), "")
}

// changeFloor is one element deleted and one added, encoded before.
func changeFloor(b *testing.B, n int) time.Duration {
	conn, err := nft.Open(nstest.New(b).Fd())
	require.NoError(b, err)
	defer conn.Close()
	require.NoError(b, conn.Commit(context.Background(), floorOf(n, 3), 0))
	targets := &nft.Set{Name: "targets"}
	of := &nft.Table{Family: nft.FamilyInet, Name: "floor"}
	return median(500, func(i int) time.Duration {
		k := nft.AppendUint32(nft.AppendPort(nft.AppendProto(nft.AppendAddr(nil, netip.MustParseAddr(bigClusterIP(i))), 6), 80), 0)
		batch := nft.NewBatch()
		batch.DelElements(of, targets, []nft.Element{{Key: k}})
		batch.AddElements(of, targets, []nft.Element{{Key: k, Data: nft.AppendPort(nft.AppendAddr(nil, netip.AddrFrom4([4]byte{10, 250, byte(i >> 8), byte(i)})), 8080)}})
		return timed(b, func() error { return conn.Commit(context.Background(), batch, 0) })
	})
}

func median(n int, f func(i int) time.Duration) time.Duration {
	took := make([]time.Duration, n)
	for i := range took {
		took[i] = f(i)
	}
	slices.Sort(took)
	return took[n/2]
}

func (t *table) restart(b *testing.B) {
	ns, state := nstest.New(b), bigState(10_000)
	first := natClient(b, ns)
	_, err := newProxy(b, service.NAT(first)).Sync(context.Background(), state)
	require.NoError(b, err)
	require.NoError(b, first.Close())
	conn, err := nft.Open(ns.Fd())
	require.NoError(b, err)
	defer conn.Close()
	before, err := conn.Generation(context.Background())
	require.NoError(b, err)
	ours := best(3, func() time.Duration {
		client := natClient(b, ns)
		defer client.Close()
		return timed(b, func() error {
			_, err := newProxy(b, service.NAT(client)).Sync(context.Background(), state)
			return err
		})
	})
	after, err := conn.Generation(context.Background())
	require.NoError(b, err)
	b.ReportMetric(float64(ours)/1e6, "restart-ms")
	t.add("restart at 10k x 3, nothing changed", ms(ours), fmt.Sprintf("%d transactions", after-before), "", "<= 1.5 s, none")
}

// connect measures connections from outside the node, which routes them to a
// pod, straight and through a cluster IP beside 30,000 others and beside none.
func (t *table) connect(b *testing.B) {
	nstest.Require(b, nstest.Conntrack)
	type side struct {
		from       *netns.NS
		direct, to netip.AddrPort
		took       [2][]time.Duration
	}
	sides := map[int]*side{}
	for _, n := range []int{1, 30_000} {
		cluster := nstest.NewCluster(b, 1, 1)
		node := cluster.Nodes[0]
		pod := node.Pods[0].Addr(false)
		nstest.ServeTCP(b, node.Pods[0].NS, netip.AddrPortFrom(pod, 8080).String(), "pod")
		nstest.Route(b, cluster.Underlay, node.PodV4, node.Addr(false))
		nstest.Route(b, cluster.Underlay, netip.MustParsePrefix("10.96.0.0/12"), node.Addr(false))
		state := bigState(n)
		state.PodRanges = nil
		state.EndpointSlices[0].Endpoints = state.EndpointSlices[0].Endpoints[:1]
		state.EndpointSlices[0].Endpoints[0].Addresses = []string{pod.String()}
		proxyOf(b, node.NS, state)
		sides[n] = &side{
			from:   cluster.Underlay,
			direct: netip.AddrPortFrom(pod, 8080), to: netip.AddrPortFrom(netip.MustParseAddr(bigClusterIP(0)), 80),
		}
	}
	runtime.GC()
	for range 40 { // in turns, so that whatever else goes on meets all alike
		for _, s := range sides {
			require.NoError(b, s.from.Do(func() error {
				for range 50 {
					for i, to := range []netip.AddrPort{s.direct, s.to} {
						start := time.Now()
						conn, err := net.Dial("tcp", to.String())
						if err != nil {
							return err
						}
						s.took[i] = append(s.took[i], time.Since(start))
						_ = conn.(*net.TCPConn).SetLinger(0)
						conn.Close()
					}
				}
				return nil
			}))
		}
	}
	p50 := func(n, i int) time.Duration {
		slices.Sort(sides[n].took[i])
		return sides[n].took[i][len(sides[n].took[i])/2]
	}
	few, many, direct := p50(1, 1), p50(30_000, 1), p50(30_000, 0)
	b.ReportMetric(over(many, few), "connect-30k/1")
	b.ReportMetric(over(many, direct), "connect-via/direct")
	t.add("connect() p50 through a cluster IP, 30k against 1", us(many), us(few), fmt.Sprintf("%.2f", over(many, few)), "<= 1.1")
	t.add("connect() p50 through a cluster IP against direct", us(many), us(direct), fmt.Sprintf("%.2f", over(many, direct)), "<= 1.35")
}
