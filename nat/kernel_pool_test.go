package nat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// egress is a node with pods, addresses to leave under, and servers outside.
type egress struct {
	node    nstest.Node
	outside map[bool][]netip.AddrPort
	pool    map[bool][]netip.Addr
}

func newEgress(t testing.TB, addresses, servers int) egress {
	t.Helper()
	cluster := nstest.NewCluster(t, 1, 2)
	cluster.RouteDirectly(t)
	e := egress{node: cluster.Nodes[0], outside: map[bool][]netip.AddrPort{}, pool: map[bool][]netip.Addr{}}
	add := func(end nstest.End, n int) nstest.End {
		end.V4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 50, byte(n)}), 24)
		end.V6 = netip.MustParsePrefix(fmt.Sprintf("fd50::1:%x/64", n))
		nstest.Address(t, end)
		return end
	}
	for n := range addresses {
		end := add(e.node.End, 100+n)
		e.pool[false], e.pool[true] = append(e.pool[false], end.V4.Addr()), append(e.pool[true], end.V6.Addr())
	}
	for n := range servers {
		end := add(nstest.End{NS: cluster.Underlay, Link: "underlay0"}, 200+n)
		for v6, a := range map[bool]netip.Addr{false: end.V4.Addr(), true: end.V6.Addr()} {
			at := netip.AddrPortFrom(a, 8080)
			nstest.ServeTCP(t, cluster.Underlay, at.String(), "outside")
			nstest.ServeUDP(t, cluster.Underlay, at.String(), "outside")
			e.outside[v6] = append(e.outside[v6], at)
		}
	}
	return e
}

func (e egress) network(v6 bool) netip.Prefix {
	if v6 {
		return e.node.PodV6
	}
	return e.node.PodV4
}

// seen is what the servers see of a pod's connections, one to each.
func (e egress) seen(t testing.TB, pod nstest.End, network string, v6 bool) (list []netip.AddrPort) {
	t.Helper()
	for _, to := range e.outside[v6] {
		list = append(list, nstest.Reaches(t, pod.NS, network, to).Client)
	}
	return list
}

func TestPool(t *testing.T) {
	needs(t)
	e := newEgress(t, 4, 8)
	serve(t, e.node.Pods[1])
	c := client(t, e.node.NS)
	set := func(t *testing.T, change func(v6 bool, p *nat.Pool)) {
		t.Helper()
		want := nat.State{}
		for _, v6 := range families {
			p := nat.Pool{First: e.pool[v6][0], Last: e.pool[v6][3]}
			change(v6, &p)
			want.Networks = append(want.Networks, nat.Network{Prefix: e.network(v6), Name: "pods", To: p})
			want.Exclude = append(want.Exclude, netip.PrefixFrom(e.outside[v6][7].Addr(), e.outside[v6][7].Addr().BitLen()))
		}
		sync(t, c, want)
		got, err := client(t, e.node.NS).Read(within(t))
		require.NoError(t, err)
		require.Empty(t, nat.Diff(got, want).String())
		nstest.Run(t, e.node.NS, "nft", "list", "ruleset")
		nstest.Run(t, e.node.NS, "nft", "-j", "list", "ruleset")
	}
	addresses := func(list []netip.AddrPort) map[netip.Addr]bool {
		m := map[netip.Addr]bool{}
		for _, a := range list[:7] {
			m[a.Addr()] = true
		}
		return m
	}
	inside := func(t *testing.T, v6 bool, seen []netip.AddrPort, pod nstest.End) {
		t.Helper()
		for a := range addresses(seen) {
			require.Contains(t, e.pool[v6], a)
		}
		require.Equal(t, pod.Addr(v6), seen[7].Addr(), "an excluded destination")
	}

	set(t, func(_ bool, p *nat.Pool) { *p = nat.Pool{First: p.Last} })
	each(t, func(t *testing.T, network string, v6 bool) {
		seen := e.seen(t, e.node.Pods[0], network, v6)
		inside(t, v6, seen, e.node.Pods[0])
		require.Equal(t, map[netip.Addr]bool{e.pool[v6][3]: true}, addresses(seen))
		// Between two pods.
		pod := netip.AddrPortFrom(e.node.Pods[1].Addr(v6), 8080)
		require.Equal(t, e.node.Pods[0].Addr(v6), nstest.Reaches(t, e.node.Pods[0].NS, network, pod).Client.Addr())
	})
	set(t, func(bool, *nat.Pool) {})
	each(t, func(t *testing.T, network string, v6 bool) {
		seen := e.seen(t, e.node.Pods[0], network, v6)
		inside(t, v6, seen, e.node.Pods[0])
		require.Greater(t, len(addresses(seen)), 1, "the address depends on the destination")
	})
	set(t, func(_ bool, p *nat.Pool) { p.Persistent = true })
	each(t, func(t *testing.T, network string, v6 bool) {
		seen := e.seen(t, e.node.Pods[0], network, v6)
		inside(t, v6, seen, e.node.Pods[0])
		require.Len(t, addresses(seen), 1, "a client has one address")
	})
	for _, random := range []bool{false, true} {
		set(t, func(_ bool, p *nat.Pool) { p.Ports, p.Random = nat.Ports{First: 2000, Last: 2999}, random })
		each(t, func(t *testing.T, network string, v6 bool) {
			seen := e.seen(t, e.node.Pods[1], network, v6)
			inside(t, v6, seen, e.node.Pods[1])
			for _, a := range seen[:7] {
				require.True(t, a.Port() >= 2000 && a.Port() <= 2999, a)
			}
		})
		for _, v6 := range families {
			// What has no ports leaves under the pool as well.
			nstest.Run(t, e.node.Pods[0].NS, "ping", "-c1", "-W10", e.outside[v6][0].Addr().String())
		}
	}
	// Back to masquerading, one by one, by a Client that does not know the table.
	for _, v6 := range families {
		_, err := client(t, e.node.NS).Read(within(t))
		require.NoError(t, err)
		p, err := c.Update(within(t), nat.Change{SetNetworks: []nat.Network{{Prefix: e.network(v6), Name: "pods"}}})
		require.NoError(t, err)
		require.Contains(t, p.String(), "ports 2000-2999 random -> masquerade")
	}
	each(t, func(t *testing.T, network string, v6 bool) {
		require.NotEqual(t, e.node.Pods[0].Addr(v6), e.seen(t, e.node.Pods[0], network, v6)[0].Addr())
	})
	sync(t, c, nat.State{})
	require.Empty(t, nstest.Run(t, e.node.NS, "nft", "list", "ruleset"))
}

// An Update by a process that has read nothing meets networks with pools.
func TestPoolUpdate(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	first := client(t, ns, shared)
	prefix := netip.MustParsePrefix("10.0.0.0/24")
	pool := nat.Pool{First: netip.MustParseAddr("192.0.2.1"), Ports: nat.Ports{First: 1}}
	sync(t, first, nat.State{
		Networks: []nat.Network{{Prefix: prefix, To: pool}},
		Capture:  nat.Capture{Inbound: 15006, Ports: []uint16{80}, Except: nat.Except{Marks: []nat.Mark{{Value: 1, Mask: 1}}}},
	})
	_, err := client(t, ns, shared).Update(within(t), nat.Change{
		SetNetworks: []nat.Network{{Prefix: prefix}, {Prefix: netip.MustParsePrefix("10.0.1.0/24"), To: pool}},
		Capture:     []uint16{80, 81}, Release: []uint16{90},
	})
	require.NoError(t, err)
	_, err = client(t, ns, shared).Update(within(t), nat.Change{Capture: []uint16{443}, Release: []uint16{80}})
	require.NoError(t, err)
	got, err := client(t, ns, shared).Read(within(t))
	require.NoError(t, err)
	want := nat.State{
		Networks: []nat.Network{{Prefix: prefix}, {Prefix: netip.MustParsePrefix("10.0.1.0/24"), To: pool}},
		Capture:  nat.Capture{Inbound: 15006, Ports: []uint16{81, 443}, Except: nat.Except{Marks: []nat.Mark{{Value: 1, Mask: 1}}}},
	}
	require.Empty(t, nat.Diff(got, want).String())
	require.True(t, plan(t, first, want).Empty())
}

// What Explain says of networks and their pools in random States is what the
// kernel does.
func TestExplainPoolKernel(t *testing.T) {
	needs(t)
	e := newEgress(t, 4, 2)
	c := client(t, e.node.NS)
	r := rand.New(rand.NewPCG(9, 9))
	pools := 0
	for range 20 {
		var s nat.State
		for _, v6 := range families {
			n := nat.Network{Prefix: e.network(v6)}
			if r.IntN(3) > 0 {
				n.To = nat.Pool{First: e.pool[v6][r.IntN(2)], Random: r.IntN(2) == 0, Persistent: r.IntN(2) == 0}
				if r.IntN(2) == 0 {
					n.To.Last = e.pool[v6][2+r.IntN(2)]
				}
				if r.IntN(2) == 0 {
					n.To.Ports = nat.Ports{First: 2000, Last: uint16(2100 + r.IntN(2))}
				}
			}
			s.Networks = append(s.Networks, n)
			f := nat.Forward{Addr: service[v6], Port: 80, Proto: nat.TCP, Masquerade: nat.Masquerade(r.IntN(3))}
			for _, to := range e.outside[v6] {
				if r.IntN(4) == 0 {
					s.Exclude = append(s.Exclude, netip.PrefixFrom(to.Addr(), to.Addr().BitLen()))
				}
				f.To = append(f.To, nat.Target{Addr: to.Addr(), Port: to.Port()})
			}
			s.Forwards = append(s.Forwards, f)
		}
		_, err := c.Sync(within(t), s)
		require.NoError(t, err)
		for v6, from := range map[bool]nstest.End{false: e.node.Pods[0], true: e.node.Pods[0]} {
			for _, dst := range []netip.AddrPort{e.outside[v6][0], e.outside[v6][1], netip.AddrPortFrom(service[v6], 80)} {
				say := nat.Explain(s, nat.Packet{Src: netip.AddrPortFrom(from.Addr(v6), 40000), Dst: dst, Proto: nat.TCP})
				a := nstest.Reaches(t, from.NS, "tcp", dst)
				why := fmt.Sprintf("%s seen as %s at %s\n%s%s", dst, a.Client, a.Local, say, nat.Diff(nat.State{}, s))
				for _, h := range say.Hops {
					if h.To != a.Local {
						continue
					}
					switch {
					case h.From != (nat.Pool{}):
						pools++
						require.True(t, h.From.Contains(a.Client.Addr()), why)
						if p := h.From.Ports; p != (nat.Ports{}) {
							require.True(t, a.Client.Port() >= p.First && a.Client.Port() <= p.Last, why)
						}
					case h.Masqueraded:
						require.NotEqual(t, from.Addr(v6), a.Client.Addr(), why)
					default:
						require.Equal(t, from.Addr(v6), a.Client.Addr(), why)
					}
				}
			}
		}
	}
	require.Greater(t, pools, 10)
}
