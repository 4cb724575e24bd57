package nat_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestSources(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 4).Nodes[0]
	serve(t, node.Pods[3])
	c := client(t, node.NS)
	single := func(e nstest.End, v6 bool) netip.Prefix { return netip.PrefixFrom(e.Addr(v6), e.Addr(v6).BitLen()) }
	state := func(restrict func(f *nat.Forward, v6 bool)) nat.State {
		s := nat.State{Forwards: append(forwards(node.Pods[3]), nodePorts(nat.MasqueradeAll, node.Pods[3])...)}
		for i := range s.Forwards {
			restrict(&s.Forwards[i], s.Forwards[i].Addr.Is6())
		}
		return s
	}
	pods := func(v6 bool) netip.Prefix {
		if v6 {
			return node.PodV6
		}
		return node.PodV4
	}
	for name, tc := range map[string]struct {
		restrict func(f *nat.Forward, v6 bool)
		served   [2]bool // pods 0 and 1
	}{
		"one allowed": {func(f *nat.Forward, v6 bool) { f.Allow = []netip.Prefix{single(node.Pods[0], v6)} }, [2]bool{true, false}},
		"all allowed": {func(f *nat.Forward, v6 bool) { f.Allow = []netip.Prefix{pods(v6)} }, [2]bool{true, true}},
		"one denied":  {func(f *nat.Forward, v6 bool) { f.Deny = []netip.Prefix{single(node.Pods[0], v6)} }, [2]bool{false, true}},
		"all but one": {func(f *nat.Forward, v6 bool) {
			f.Allow, f.Deny = []netip.Prefix{pods(v6)}, []netip.Prefix{single(node.Pods[0], v6)}
		}, [2]bool{false, true}},
		"no limits": {func(*nat.Forward, bool) {}, [2]bool{true, true}},
	} {
		t.Run(name, func(t *testing.T) {
			want := state(tc.restrict)
			sync(t, c, want)
			each(t, func(t *testing.T, network string, v6 bool) {
				for _, to := range []netip.AddrPort{netip.AddrPortFrom(service[v6], 80), netip.AddrPortFrom(node.Addr(v6), 30080)} {
					for i, served := range tc.served {
						if served {
							nstest.Reaches(t, node.Pods[i].NS, network, to)
						} else {
							nstest.TimesOut(t, node.Pods[i].NS, network, to)
						}
					}
				}
			})
			got, err := client(t, node.NS).Read(within(t))
			require.NoError(t, err)
			require.Empty(t, nat.Diff(got, want).String())
			require.True(t, plan(t, client(t, node.NS), want).Empty())
			nstest.Run(t, node.NS, "nft", "list", "ruleset")
		})
	}
}
