package nat_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// Connections to a removed target are cut when its grace is over, by Watch or
// by whoever drains, and not when it came back before.
func TestDrainLater(t *testing.T) {
	needs(t)
	for _, who := range []string{"watch", "drain"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			node := nstest.NewCluster(t, 1, 4).Nodes[0]
			serve(t, node.Pods[1:]...)
			state := func(pods ...nstest.End) nat.State {
				s := nat.State{Forwards: forwards(pods...)}
				for i := range s.Forwards {
					s.Forwards[i].Drain, s.Forwards[i].Grace = nat.DrainLater, 2*time.Second
				}
				return s
			}
			c := client(t, node.NS, shared)
			sync(t, c, state(node.Pods[1:]...))
			if who == "watch" {
				ctx, cancel := context.WithCancel(context.Background())
				done := make(chan error, 1)
				go func() { done <- c.Watch(ctx) }()
				t.Cleanup(func() {
					cancel()
					require.ErrorIs(t, <-done, context.Canceled)
				})
			}
			// One connection to each pod, in both families.
			flows := map[netip.Addr]*nstest.Flow{}
			for _, v6 := range families {
				for range 200 {
					flow, err := nstest.Dial(t, node.Pods[0].NS, "tcp", netip.AddrPortFrom(service[v6], 80))
					require.NoError(t, err)
					a, err := flow.Ask()
					require.NoError(t, err)
					flows[netip.MustParseAddr(a.Server)] = flow
				}
			}
			require.Len(t, flows, 6)
			asks := func(pod nstest.End) (err error) {
				for _, v6 := range families {
					if _, e := flows[pod.Addr(v6)].Ask(); e != nil {
						err = e
					}
				}
				return err
			}
			sync(t, c, state(node.Pods[1]))
			require.NoError(t, asks(node.Pods[2]), "within its grace")
			require.NoError(t, asks(node.Pods[3]))
			// One comes back; where nobody watches, by another's hand.
			back, by := state(node.Pods[1], node.Pods[3]).Forwards, c
			if who == "drain" {
				by = client(t, node.NS, shared)
			}
			_, err := by.Update(within(t), nat.Change{Set: back})
			require.NoError(t, err)
			if who == "drain" {
				other := client(t, node.NS, shared)
				next, err := other.Drain(within(t))
				require.NoError(t, err)
				for !next.IsZero() {
					time.Sleep(time.Until(next) + time.Millisecond)
					next, err = other.Drain(within(t))
					require.NoError(t, err)
				}
			}
			require.Eventually(t, func() bool {
				for _, v6 := range families {
					if _, err := flows[node.Pods[2].Addr(v6)].Ask(); err == nil {
						return false
					}
				}
				return true
			}, 30*time.Second, 50*time.Millisecond, "cut when it is over")
			require.NoError(t, asks(node.Pods[1]), "this one never went")
			require.NoError(t, asks(node.Pods[3]), "this one came back")
			require.NotContains(t, nstest.Run(t, node.NS, "nft", "list", "set", "inet", "podplumb-nat", "draining4"), "elements")
		})
	}
}
