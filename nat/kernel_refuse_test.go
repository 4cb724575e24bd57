package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestNoTargets(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 2).Nodes[0]
	serve(t, node.Pods[1])
	c := client(t, node.NS)
	for _, empty := range []nat.Refusal{nat.Reject, nat.Drop} {
		t.Run(empty.String(), func(t *testing.T) {
			want := nat.State{Forwards: forwards()}
			for i := range want.Forwards {
				want.Forwards[i].Empty = empty
			}
			sync(t, c, want)
			each(t, func(t *testing.T, network string, v6 bool) {
				to := netip.AddrPortFrom(service[v6], 80)
				check := nstest.Refused
				if empty == nat.Drop {
					check = nstest.TimesOut
				}
				check(t, node.Pods[0].NS, network, to)
				if empty == nat.Reject {
					check(t, node.NS, network, to)
				}
			})
			// The mode is kept while there are targets.
			for _, f := range forwards(node.Pods[1]) {
				for j := range want.Forwards {
					if want.Forwards[j].Key() == f.Key() {
						want.Forwards[j].To = f.To
					}
				}
			}
			sync(t, c, want)
			each(t, func(t *testing.T, network string, v6 bool) {
				nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80))
			})
			got, err := client(t, node.NS).Read(within(t))
			require.NoError(t, err)
			require.Empty(t, nat.Diff(got, want).String())
		})
	}
}

// A forward on an address of the host leaves the host's other ports alone.
func TestOwnAddress(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 1)
	node, outside := cluster.Nodes[0], cluster.Underlay
	serve(t, node.Pods[0])
	c := client(t, node.NS)
	var want nat.State
	for _, v6 := range families {
		for _, proto := range protos {
			want.Forwards = append(want.Forwards, nat.Forward{
				Addr: node.Addr(v6), Port: 80, Proto: proto,
				To: []nat.Target{{Addr: node.Pods[0].Addr(v6), Port: 8080}},
			})
		}
		at := netip.AddrPortFrom(node.Addr(v6), 22).String()
		nstest.ServeTCP(t, node.NS, at, "host")
		nstest.ServeUDP(t, node.NS, at, "host")
	}
	sync(t, c, want)
	each(t, func(t *testing.T, network string, v6 bool) {
		require.Equal(t, node.Pods[0].Addr(v6).String(), nstest.Reaches(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 80)).Server)
		require.Equal(t, "host", nstest.Reaches(t, outside, network, netip.AddrPortFrom(node.Addr(v6), 22)).Server)
		require.Equal(t, "host", nstest.Reaches(t, node.NS, network, netip.AddrPortFrom(node.Addr(v6), 22)).Server)
	})
}

// The bits of the mark that are not ours come through, ours are cleared.
func TestMark(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 2).Nodes[0]
	serve(t, node.Pods[1])
	for _, mask := range []uint32{0, 0xfff00000} {
		c := client(t, node.NS, func(c *nat.Config) { c.Mark = mask; c.Table = "marked" })
		sync(t, c, nat.State{Forwards: forwards(node.Pods[1])})
		nstest.Run(t, node.NS, "nft", `add table inet watch; add counter inet watch good; add counter inet watch bad
			add chain inet watch before { type filter hook prerouting priority mangle; }
			add rule inet watch before th dport 80 meta mark set 0xff0abcde
			add chain inet watch through { type filter hook forward priority mangle; }
			add rule inet watch through ct status dnat ct state new th dport 8080 meta mark 0x000abcde counter name good
			add rule inet watch through ct status dnat ct state new th dport 8080 meta mark != 0x000abcde counter name bad`)
		each(t, func(t *testing.T, network string, v6 bool) {
			nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80))
		})
		counters := nstest.Run(t, node.NS, "nft", "list", "counters", "table", "inet", "watch")
		require.Regexp(t, `(?s)counter good \{\s*packets [1-9]`, counters)
		require.Regexp(t, `(?s)counter bad \{\s*packets 0 `, counters)
		nstest.Run(t, node.NS, "nft", "delete", "table", "inet", "watch")
		sync(t, c, nat.State{})
	}
}
