package nat_test

import (
	"fmt"
	"net/netip"
	stdsync "sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestUpdate(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 3).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	update := func(ch nat.Change) nat.Plan {
		p, err := c.Update(within(t), ch)
		require.NoError(t, err)
		return p
	}
	require.True(t, update(nat.Change{Drop: []nat.Key{{Addr: service[false], Port: 80, Proto: nat.TCP}}}).Empty())
	require.Empty(t, nstest.Run(t, node.NS, "nft", "list", "ruleset"))
	require.False(t, update(nat.Change{Set: forwards(node.Pods[1])}).Empty())
	require.True(t, update(nat.Change{Set: forwards(node.Pods[1])}).Empty())
	each(t, func(t *testing.T, network string, v6 bool) {
		nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80))
	})
	update(nat.Change{Set: forwards(node.Pods[2])})
	each(t, func(t *testing.T, network string, v6 bool) {
		require.Equal(t, node.Pods[2].Addr(v6).String(), nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80)).Server)
	})
	p := update(nat.Change{
		Set:  []nat.Forward{{Addr: service[false], Port: 443, Proto: nat.TCP, Empty: nat.Drop}},
		Drop: []nat.Key{{Addr: service[false], Port: 80, Proto: nat.UDP}},
	})
	require.Equal(t, "- forward 10.96.0.10:80/udp\n+ forward 10.96.0.10:443/tcp: to drop\n", p.String())
	var want nat.State
	for _, f := range forwards(node.Pods[2]) {
		if f.Addr.Is6() || f.Proto == nat.TCP {
			want.Forwards = append(want.Forwards, f)
		}
	}
	want.Forwards = append(want.Forwards, nat.Forward{Addr: service[false], Port: 443, Proto: nat.TCP, Empty: nat.Drop})
	require.True(t, plan(t, c, want).Empty(), "Sync with the whole State gives the same")
}

// Connections spread by weight.
func TestWeights(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 4).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	want := nat.State{Forwards: forwards(node.Pods[1:]...)}
	for i := range want.Forwards {
		for j := range want.Forwards[i].To {
			want.Forwards[i].To[j].Weight = []int{2, 8, 2}[j]
		}
	}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		const asks = 600
		hits := map[string]int{}
		for range asks {
			hits[nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80)).Server]++
		}
		for j, share := range []float64{1. / 6, 4. / 6, 1. / 6} {
			// Five standard deviations: sqrt(600 * 2/9) = 11.5.
			require.InDelta(t, share*asks, hits[node.Pods[1+j].Addr(v6).String()], 58, "%v", hits)
		}
	})
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Empty(t, nat.Diff(got, want).String())
}

// More targets than there are exact lanes for.
func TestManyTargets(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 3).Nodes[0]
	c := client(t, node.NS)
	f := map[bool]nat.Forward{}
	for _, v6 := range families {
		pod := node.Pods[1]
		w := nat.Forward{Addr: service[v6], Port: 80, Proto: nat.TCP}
		for i := range 69 {
			nstest.ServeTCP(t, pod.NS, netip.AddrPortFrom(pod.Addr(v6), uint16(7000+i)).String(), fmt.Sprint(i))
			w.To = append(w.To, nat.Target{Addr: pod.Addr(v6), Port: uint16(7000 + i)})
		}
		f[v6] = w
	}
	sync(t, c, nat.State{Forwards: []nat.Forward{f[false], f[true]}})
	for name, v6 := range families {
		t.Run(name, func(t *testing.T) {
			hits := map[string]int{}
			for range 69 * 20 {
				hits[nstest.Reaches(t, node.Pods[0].NS, "tcp", netip.AddrPortFrom(service[v6], 80)).Server]++
			}
			require.Len(t, hits, 69, "every target is met")
			for s, n := range hits {
				require.Less(t, n, 60, "target %s", s)
			}
		})
	}
	got, err := client(t, node.NS).Read(within(t))
	require.NoError(t, err)
	require.Len(t, got.Forwards[0].To, 69)
	require.Empty(t, nat.Diff(got, nat.State{Forwards: []nat.Forward{f[false], f[true]}}).String())
}

// While targets come and go, no connection fails as long as one stays, and
// connections to one that stays live on.
func TestChurn(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 4).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	stay := node.Pods[1]
	sync(t, c, nat.State{Virtual: ranges, Forwards: forwards(stay)})
	var flows []*nstest.Flow
	for _, v6 := range families {
		for network := range protos {
			f, err := nstest.Dial(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80))
			require.NoError(t, err)
			_, err = f.Ask()
			require.NoError(t, err)
			flows = append(flows, f)
		}
	}
	var stop atomic.Bool
	var asked atomic.Int64
	var group stdsync.WaitGroup
	for _, v6 := range families {
		for network := range protos {
			group.Go(func() {
				for !stop.Load() {
					if _, err := nstest.Ask(node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80)); err != nil {
						t.Errorf("%s %s: %v", network, service[v6], err)
						return
					}
					asked.Add(1)
				}
			})
		}
	}
	changes := 0
	for end := time.Now().Add(3 * time.Second); time.Now().Before(end); changes++ {
		pods := append([]nstest.End{stay}, node.Pods[2:2+changes%3]...)
		if changes%2 == 0 {
			pods = append(pods[1:], pods[0]) // order means nothing
		}
		_, err := c.Update(within(t), nat.Change{Set: forwards(pods...)})
		require.NoError(t, err)
		if changes%64 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	stop.Store(true)
	group.Wait()
	for _, f := range flows {
		a, err := f.Ask()
		require.NoError(t, err)
		require.Contains(t, []string{stay.V4.Addr().String(), stay.V6.Addr().String()}, a.Server)
	}
	t.Logf("%d changes, %d connections, none failed", changes, asked.Load())
	require.Greater(t, asked.Load(), int64(100))
	require.Greater(t, changes, 10)
}

// A client that sends from one port follows when its UDP target goes.
func TestUDPTargetRemoved(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 3).Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	for _, batch := range []int{0, 20} { // few flows, many flows
		for name, v6 := range families {
			t.Run(fmt.Sprintf("%s/%d", name, batch), func(t *testing.T) {
				to := netip.AddrPortFrom(service[v6], 80)
				sync(t, c, nat.State{Forwards: append(forwards(node.Pods[1]), udp(batch, true)...)})
				flow, err := nstest.Dial(t, node.Pods[0].NS, "udp", to)
				require.NoError(t, err)
				a, err := flow.Ask()
				require.NoError(t, err)
				require.Equal(t, node.Pods[1].Addr(v6).String(), a.Server)
				kept, err := nstest.Dial(t, node.Pods[0].NS, "udp", netip.AddrPortFrom(node.Pods[1].Addr(v6), 8080))
				require.NoError(t, err)
				_, err = kept.Ask()
				require.NoError(t, err)
				direct := nstest.Run(t, node.NS, "conntrack", "-L", "-f", map[bool]string{false: "ipv4", true: "ipv6"}[v6], "-p", "udp", "--orig-dst", node.Pods[1].Addr(v6).String())

				sync(t, c, nat.State{Forwards: append(forwards(node.Pods[2]), udp(batch, false)...)})
				a, err = flow.Ask()
				require.NoError(t, err)
				require.Equal(t, node.Pods[2].Addr(v6).String(), a.Server)
				after := nstest.Run(t, node.NS, "conntrack", "-L", "-f", map[bool]string{false: "ipv4", true: "ipv6"}[v6], "-p", "udp", "--orig-dst", node.Pods[1].Addr(v6).String())
				require.NotEmpty(t, direct)
				require.Contains(t, after, fmt.Sprint("sport=", kept.LocalAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Port()), "a direct flow is left alone")
			})
		}
	}
}

// udp returns n UDP forwards.
func udp(n int, first bool) []nat.Forward {
	s := many(n)
	for i := range s.Forwards {
		s.Forwards[i].Proto = nat.UDP
		if first {
			s.Forwards[i].To = s.Forwards[i].To[:1]
		} else {
			s.Forwards[i].To = s.Forwards[i].To[1:]
		}
		s.Forwards[i].Port = 5000
	}
	return s.Forwards
}
