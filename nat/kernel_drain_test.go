package nat_test

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// Connections to a removed target go on or are cut, as the forward says;
// connections to the targets that stay always go on.
func TestDrain(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 3)
	node := cluster.Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	for _, drain := range []nat.Drain{nat.DrainKeep, nat.DrainReset} {
		for name, remove := range map[string]func(s *nat.State, left []nat.Forward){
			"target":  func(s *nat.State, left []nat.Forward) { s.Forwards = left },
			"targets": func(s *nat.State, _ []nat.Forward) { s.Forwards = append([]nat.Forward{}, s.Forwards...); empty(s) },
			"forward": func(s *nat.State, _ []nat.Forward) {
				s.Forwards = nil
				s.Virtual = []nat.Virtual{{Prefix: ranges[0].Prefix}, {Prefix: ranges[1].Prefix}}
			},
		} {
			t.Run(drain.String()+"/"+name, func(t *testing.T) {
				state := func(pods ...nstest.End) []nat.Forward {
					list := append(forwards(pods...), nodePorts(nat.MasqueradeHairpin, pods...)...)
					for i := range list {
						list[i].Drain = drain
					}
					return list
				}
				s := nat.State{Forwards: state(node.Pods[1:]...)}
				sync(t, c, s)
				got, err := client(t, node.NS).Read(within(t))
				require.NoError(t, err)
				require.Empty(t, nat.Diff(got, s).String())
				type held struct {
					flow *nstest.Flow
					stay bool
				}
				var flows []held
				for _, v6 := range families {
					for _, to := range []netip.AddrPort{netip.AddrPortFrom(service[v6], 80), netip.AddrPortFrom(node.Addr(v6), 30080)} {
						for range 6 {
							f, err := nstest.Dial(t, node.Pods[0].NS, "tcp", to)
							require.NoError(t, err)
							a, err := f.Ask()
							require.NoError(t, err)
							flows = append(flows, held{f, name == "target" && a.Server == node.Pods[2].Addr(v6).String()})
						}
					}
				}
				remove(&s, state(node.Pods[2]))
				sync(t, c, s)
				for _, h := range flows {
					_, err := h.flow.Ask()
					if h.stay || drain == nat.DrainKeep {
						require.NoError(t, err)
					} else {
						require.ErrorIs(t, err, syscall.ECONNRESET)
					}
				}
			})
		}
	}
}

func empty(s *nat.State) {
	for i := range s.Forwards {
		s.Forwards[i].To = nil
	}
}
