package veth_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/veth"
)

// TestPlanText compares the text of plans with what is on file: have and want are states in JSON, plan is the text.
func TestPlanText(t *testing.T) {
	golden.Cases(t, "testdata/*.txtar", func(t *testing.T, c *golden.Case) {
		read := func(name string) (s veth.State) {
			if c.Has(name) {
				require.NoError(t, json.Unmarshal([]byte(c.File(name)), &s))
				require.NoError(t, s.Validate())
			}
			return s
		}
		have, want := read("have.json"), read("want.json")
		p := veth.Diff(have, want)
		c.Want("plan", p.String())
		require.Equal(t, p.String() == "", p.Empty())
		require.Empty(t, veth.Diff(want, want).String())
	})
}

// choose picks one of its arguments.
func choose[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

// some picks each of its arguments or not.
func some[T any](r *rand.Rand, of ...T) (out []T) {
	for _, v := range of {
		if r.IntN(2) == 0 {
			out = append(out, v)
		}
	}
	return out
}

// randomState makes a state of few names, so that two of them have much in common. It is not always valid: Diff does not mind.
func randomState(r *rand.Rand) veth.State {
	var s veth.State
	mac := func() veth.MAC { return choose(r, veth.MAC{}, veth.MAC{2, 1}, veth.MAC{2, 2}) }
	routes := func() []veth.Route {
		out := some(r, veth.DefaultVia(addr("10.1.0.1")), veth.DefaultVia(addr("fd01::1")), veth.Route{To: netip.MustParsePrefix("10.9.0.0/16")})
		for i := range out {
			out[i].Metric, out[i].MTU, out[i].OnLink = choose(r, uint32(0), 7), choose(r, uint32(0), 1400), choose(r, true, false)
		}
		return out
	}
	sysctls := func() map[string]string {
		return choose(r, nil, map[string]string{"net.ipv4.conf.IFNAME.rp_filter": choose(r, "0", "2")}, map[string]string{"net/ipv4/conf/IFNAME/arp_filter": "1"})
	}
	vlans := func() veth.VLANs {
		return choose(r, veth.VLANs{}, veth.VLANs{None: true}, veth.VLANs{Access: 10}, veth.VLANs{Trunks: []veth.VLANRange{{First: 3, Last: 4}, {First: 5, Last: 6}}})
	}
	for _, name := range some(r, "br0", "br1") {
		s.Bridges = append(s.Bridges, veth.Bridge{
			Name: name, MAC: mac(), MTU: choose(r, 0, 1500, 9000), Down: choose(r, true, false), Addresses: some(r, gateways...), Routes: routes(), Sysctls: sysctls(),
			DAD: choose(r, true, false), Promiscuous: choose(r, true, false), MulticastSnooping: choose(r, true, false), GroupForwardMask: choose[uint16](r, 0, 8),
			CallIPTables: choose(r, true, false), VLANFiltering: choose(r, true, false), VLANs: vlans(),
		})
	}
	for _, name := range some(r, "v0", "v1", "v2") {
		s.Pairs = append(s.Pairs, veth.Pair{
			Group: choose[uint32](r, 0, 5),
			Host: veth.Host{
				Name: name, MAC: mac(), MTU: choose(r, 0, 1400), Bridge: choose(r, "", "br0", "br1"), Down: choose(r, true, false), DAD: choose(r, true, false),
				Port: veth.Port{Hairpin: choose(r, true, false), Isolated: choose(r, true, false), VLANs: vlans()}, Addresses: some(r, prefixes("169.254.1.1/32", "fe80::1/64")...),
				Routes: routes(), Unrouted: some(r, addr("10.1.0.5")), ProxyARP: choose(r, true, false), Proxy: some(r, addr("fd99::1"), addr("10.7.7.7")), Sysctls: sysctls(),
			},
			Pod: veth.Pod{
				NetNS: choose(r, "/run/netns/a", "/run/netns/b"), Name: choose(r, "eth0", "eth1"), MAC: mac(), Down: choose(r, true, false),
				Addresses: some(r, prefixes("10.1.0.5/24", "fd01::5/64")...), Routes: routes(), Sysctls: sysctls(), DAD: choose(r, true, false),
			},
		})
	}
	r.Shuffle(len(s.Pairs), func(i, j int) { s.Pairs[i], s.Pairs[j] = s.Pairs[j], s.Pairs[i] })
	return s
}

// TestDiffLaws: nothing differs from itself in whatever form; what differs is told, both ways; a removed pair or bridge is one line.
func TestDiffLaws(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		a, b := randomState(r), randomState(r)
		before := fmt.Sprintf("%#v", a)
		require.Empty(t, veth.Diff(a, a).String())
		require.Empty(t, veth.Diff(a, a.Canonical()).String())
		require.Empty(t, veth.Diff(a.Canonical(), a).String())
		require.Equal(t, a.Canonical(), a.Canonical().Canonical())
		require.Equal(t, before, fmt.Sprintf("%#v", a), "Diff changed its argument")

		there, back := veth.Diff(a, b), veth.Diff(b, a)
		require.Equal(t, there.String(), veth.Diff(a.Canonical(), b.Canonical()).String())
		require.Equal(t, there.Empty(), there.String() == "")
		// MACs and VLANs that are not given match anything, and so may hide a difference one way.
		if there.Empty() && back.Empty() {
			unnamed := func(s veth.State) veth.State {
				s = s.Canonical()
				for i := range s.Bridges {
					s.Bridges[i].MAC, s.Bridges[i].VLANs = veth.MAC{}, veth.VLANs{}
				}
				for i := range s.Pairs {
					p := &s.Pairs[i]
					p.Host.MAC, p.Pod.MAC, p.Host.Port.VLANs, p.Host.Unrouted = veth.MAC{}, veth.MAC{}, veth.VLANs{}, nil
					if p.Host.Bridge == "" {
						p.Host.Port = veth.Port{}
					} else {
						p.Host.DAD, p.Host.ProxyARP = false, false
					}
				}
				return s
			}
			require.Equal(t, unnamed(a), unnamed(b))
		}
		all := veth.Diff(a, veth.State{})
		require.Len(t, lines(all), len(a.Bridges)+len(a.Pairs))
	}
}

func lines(p veth.Plan) []string {
	var out []string
	for i, j, s := 0, 0, p.String(); j < len(s); j++ {
		if s[j] == '\n' {
			out, i = append(out, s[i:j]), j+1
		}
	}
	return out
}
