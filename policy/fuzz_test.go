package policy_test

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/podplumb/podplumb/policy"
)

// ends lists all addresses of a world, and some that are in none.
func ends(s policy.State) []netip.Addr {
	list := slices.Clone(worldOutside)
	for i := range s.Pods {
		list = append(list, s.Pods[i].Addrs()...)
	}
	for _, text := range []string{"10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2", "10.244.0.99"} {
		list = append(list, netip.MustParseAddr(text))
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}

// agree holds the rules to the specification for every packet of a world.
func agree(t testing.TB, s policy.State, r policy.Ruleset) {
	t.Helper()
	e := policy.NewEvaluator(s)
	all := ends(s)
	for _, src := range all {
		for _, dst := range all {
			if src.Is4() != dst.Is4() {
				continue
			}
			for _, proto := range worldProtocols {
				for _, port := range worldPorts {
					if proto == "ICMP" && port != 0 {
						continue
					}
					p := policy.Packet{Protocol: proto, Src: src, Dst: dst, Port: port}
					want := e.Evaluate(p)
					if got := policy.Interpret(r, p); got != want.Allowed {
						t.Fatalf("%s: the rules say %t, Evaluate says %s\n%s", p, got, want, r)
					}
				}
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	for seed := range uint64(40) {
		f.Add(seed, seed%2 == 0)
	}
	f.Fuzz(func(t *testing.T, seed uint64, faulty bool) {
		d := newDice(seed, faulty)
		s := d.state(1+d.IntN(6), 4, 3)
		agree(t, s, policy.CompileAnyway(policy.Config{KeepLive: d.oneIn(2), Reject: d.oneIn(2)}, s))
	})
}
