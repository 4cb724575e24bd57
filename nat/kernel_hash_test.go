package nat_test

import (
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// A client keeps its target without the kernel's learning it, several clients
// get several targets, and a client whose target stays, stays.
func TestHash(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 4)
	node := cluster.Nodes[0]
	serve(t, node.Pods[1:]...)
	c := client(t, node.NS)
	from := node.Pods[0]
	// Sixteen client addresses of one pod.
	sources := map[bool][]netip.Addr{}
	for v6 := range map[bool]bool{false: true, true: true} {
		a := from.Addr(v6)
		for range 40 {
			a = a.Next()
		}
		for range 16 {
			a = a.Next()
			args := []string{"addr", "add", netip.PrefixFrom(a, map[bool]int{false: 24, true: 64}[v6]).String(), "dev", "eth0"}
			if v6 {
				args = append(args, "nodad")
			}
			nstest.Run(t, from.NS, "ip", args...)
			sources[v6] = append(sources[v6], a)
		}
	}
	ask := func(t *testing.T, source netip.Addr, network string, to netip.AddrPort) string {
		a, err := askFrom(from, source, network, to)
		require.NoError(t, err)
		require.Equal(t, source, a.Client.Addr())
		return a.Server
	}
	for _, algorithm := range []nat.Algorithm{nat.SourceHash, nat.Maglev} {
		t.Run(algorithm.String(), func(t *testing.T) {
			state := func(pods ...nstest.End) nat.State {
				s := nat.State{Forwards: append(forwards(pods...), nodePorts(nat.MasqueradeHairpin, pods...)...)}
				for i := range s.Forwards {
					s.Forwards[i].Algorithm = algorithm
					s.Forwards[i].To[0].Weight = 2
				}
				return s
			}
			want := state(node.Pods[1:]...)
			sync(t, c, want)
			got, err := client(t, node.NS).Read(within(t))
			require.NoError(t, err)
			require.Empty(t, nat.Diff(got, want).String())
			require.True(t, plan(t, client(t, node.NS), want).Empty())
			nstest.Run(t, node.NS, "nft", "list", "ruleset")
			each(t, func(t *testing.T, network string, v6 bool) {
				for _, to := range []netip.AddrPort{netip.AddrPortFrom(service[v6], 80), netip.AddrPortFrom(node.Addr(v6), 30080)} {
					sync(t, c, want)
					home, targets := map[netip.Addr]string{}, map[string]bool{}
					for _, s := range sources[v6] {
						home[s] = ask(t, s, network, to)
						targets[home[s]] = true
						for range 4 {
							require.Equal(t, home[s], ask(t, s, network, to), "a client keeps its target")
						}
					}
					require.Greater(t, len(targets), 1, "clients spread")
					if algorithm != nat.Maglev {
						continue
					}
					sync(t, c, state(node.Pods[1:3]...))
					stayed, could := 0, 0
					for s, was := range home {
						if was == node.Pods[3].Addr(v6).String() {
							continue
						}
						could++
						if ask(t, s, network, to) == was {
							stayed++
						}
					}
					require.GreaterOrEqual(t, stayed*4, could*3, "%d of %d stayed", stayed, could)
				}
			})
		})
	}
}

// askFrom asks from a given address of a pod.
func askFrom(from nstest.End, source netip.Addr, network string, to netip.AddrPort) (nstest.Answer, error) {
	var answer nstest.Answer
	err := from.NS.Do(func() error {
		conn, err := dialFrom(source, network, to)
		if err != nil {
			return err
		}
		defer conn.Close()
		answer, err = (&nstest.Flow{Conn: conn}).Ask()
		return err
	})
	return answer, err
}

func dialFrom(source netip.Addr, network string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: nstest.AnswerWithin, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))}
	if network == "udp" {
		d.LocalAddr = net.UDPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	return d.Dial(network, to.String())
}
