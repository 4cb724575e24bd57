package nat_test

import (
	"maps"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/nat"
)

func TestPlanGolden(t *testing.T) {
	golden.Cases(t, "testdata/plan/*.txtar", func(t *testing.T, c *golden.Case) {
		have, want := parseState(t, c.File("have")), parseState(t, c.File("want"))
		c.Want("plan", nat.Diff(have, want).String())
		edits, _ := nat.Edits(have, want)
		c.Want("edits", edits)
	})
}

func TestExplainGolden(t *testing.T) {
	golden.Cases(t, "testdata/explain/*.txtar", func(t *testing.T, c *golden.Case) {
		s := parseState(t, c.File("state"))
		var out strings.Builder
		for line := range strings.Lines(c.File("packets")) {
			out.WriteString("# " + line)
			out.WriteString(nat.Explain(s, parsePacket(t, line)).String())
		}
		c.Want("explained", out.String())
	})
}

func TestRulesetGolden(t *testing.T) {
	golden.Cases(t, "testdata/ruleset/*.txtar", func(t *testing.T, c *golden.Case) {
		c.Want("ruleset", nat.Ruleset(nat.Config{Mark: 0xfff00000}, 1, 3, 70))
	})
}

func TestLanes(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for n := 1; n <= 1<<16; n++ {
		name, size, sure := nat.Lane(n)
		names[name] = true
		require.GreaterOrEqual(t, size, n)
		require.LessOrEqual(t, sure, n, "every forward of the lane has the last draw's slots")
		require.LessOrEqual(t, (size-n)*17, size, "a draw rarely misses")
		if n <= 64 {
			require.Equal(t, n, size)
			require.Equal(t, n, sure)
		}
		parsed, ok := nat.ParseLane(name)
		require.True(t, ok)
		require.Equal(t, size, parsed)
	}
	require.LessOrEqual(t, len(names), 224)
	for _, bad := range []string{"", "random-", "random-0", "random--1", "random-65", "random-65537", "serve4", "random-3x"} {
		_, ok := nat.ParseLane(bad)
		require.False(t, ok, bad)
	}
}

// A change moves as few slots as it can.
func TestPlace(t *testing.T) {
	t.Parallel()
	target := func(n int) nat.Target {
		return nat.Target{Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}), Port: 80, Weight: 1}
	}
	var all []nat.Target
	for n := range 50 {
		all = append(all, target(n))
	}
	slots := nat.Place(nil, all)
	fewer := append(append([]nat.Target{}, all[:20]...), all[21:]...)
	next := nat.Place(slots, fewer)
	moved := 0
	for i := range next {
		if next[i] != slots[i] {
			moved++
		}
	}
	require.Equal(t, 1, moved, "the last slot's target takes the place of the one that went")
	require.Len(t, next, 49)
}

// One target of n that goes moves about one client in n, and the shares are
// what the weights say.
func TestMaglev(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 10, 64, 100} {
		var targets []nat.Target
		for i := range n {
			targets = append(targets, nat.Target{Addr: netip.AddrFrom4([4]byte{10, 244, 0, byte(i)}), Port: 80, Weight: 1 + i%2})
		}
		table := nat.MaglevTable(targets)
		require.Equal(t, table, nat.MaglevTable(targets))
		total := n + n/2
		share := map[netip.AddrPort]int{}
		for _, at := range table {
			share[at]++
		}
		for _, to := range targets {
			want := float64(len(table)) * float64(to.Weight) / float64(total)
			require.InDelta(t, want, share[netip.AddrPortFrom(to.Addr, to.Port)], 2+want/10)
		}
		if n < 2 {
			continue
		}
		gone := targets[n/2]
		next := nat.MaglevTable(append(append([]nat.Target{}, targets[:n/2]...), targets[n/2+1:]...))
		moved := 0
		for i, at := range next {
			if table[i].Addr() != gone.Addr && table[i] != at {
				moved++
			}
		}
		require.Less(t, moved, len(table)/5, "of %d targets one went: %d slots of others moved", n, moved)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr
	bad := nat.State{
		Networks: []nat.Network{{}, {Prefix: netip.MustParsePrefix("10.0.0.0/8"), Name: "a\nb"}},
		Exclude:  []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")},
		Virtual: []nat.Virtual{
			{Prefix: netip.MustParsePrefix("10.96.0.0/12")}, {Prefix: netip.MustParsePrefix("10.97.0.0/16"), Miss: nat.Drop},
			{Prefix: netip.MustParsePrefix("fd00::/64"), Miss: 7},
		},
		Forwards: []nat.Forward{
			{},
			{Addr: addr("10.96.0.1"), Port: 80, Proto: nat.TCP, Name: strings.Repeat("x", 121), Affinity: time.Second / 2, Empty: 9, Masquerade: 9, To: []nat.Target{
				{Addr: addr("fd00::1"), Port: 80}, {Addr: addr("10.0.0.1"), Weight: -1}, {Addr: addr("224.0.0.1"), Port: 1, Weight: 1 << 20},
			}},
			{Addr: addr("10.96.0.1"), Port: 80, Proto: nat.TCP},
			{Addr: addr("fe80::1%eth0"), Port: 80, Proto: 1},
		},
	}
	require.Equal(t, []string{
		`exclude[0]: ::ffff:10.0.0.0/104 is an IPv4 address in IPv6 form`,
		`forwards[0].addr: no address`,
		`forwards[0].port: zero`,
		`forwards[0].proto: unknown proto(0)`,
		`forwards[1].affinity: 500ms is not whole seconds up to 720h0m0s`,
		`forwards[1].empty: unknown refusal(9)`,
		`forwards[1].masquerade: unknown masquerade(9)`,
		`forwards[1].name: 121 bytes, at most 120`,
		`forwards[1].to[0].addr: fd00::1 is not of the family of 10.96.0.1`,
		`forwards[1].to[1].port: zero`,
		`forwards[1].to[1].weight: -1 is not between 0 and 65536`,
		`forwards[1].to[2].addr: 224.0.0.1 is not a unicast address`,
		`forwards[1].to[2].weight: 1048576 is not between 0 and 65536`,
		`forwards[2]: 10.96.0.1:80/tcp is forwards[1] already`,
		`forwards[3].addr: fe80::1%eth0 has a zone`,
		`forwards[3].proto: unknown proto(1)`,
		`networks[0].prefix: no prefix`,
		`networks[1].name: "a\nb" has a character that is not printable ASCII, or a quote`,
		`virtual[1]: 10.97.0.0/16 lies inside virtual[0] 10.96.0.0/12 and differs from it`,
		`virtual[2].miss: unknown refusal(7)`,
	}, nat.Faults(bad.Validate()))
	require.NoError(t, nat.State{}.Validate())
	require.Equal(t, []string{"drop[0]: 10.96.0.1:80/tcp is set[0] already"},
		nat.Faults(nat.Change{Set: bad.Forwards[2:3], Drop: []nat.Key{bad.Forwards[2].Key()}}.Validate()))
}

func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := nat.New(nat.Config{Table: "a b", Mark: 0x0000ff00})
	require.ErrorContains(t, err, `table: "a b"`)
	require.ErrorContains(t, err, "mark: 0x0000ff00")
	_, err = nat.New(nat.Config{Mark: 0xfe000000})
	require.ErrorContains(t, err, "mark")
}

// Weights that would need too many slots are rounded, in proportion.
func TestWeightsRounded(t *testing.T) {
	t.Parallel()
	a, b, c := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2"), netip.MustParseAddr("10.0.0.3")
	s := nat.State{Forwards: []nat.Forward{{Addr: a, Port: 1, Proto: nat.TCP, To: []nat.Target{
		{Addr: a, Port: 1, Weight: 65536}, {Addr: b, Port: 1, Weight: 32769}, {Addr: c, Port: 1, Weight: 1},
	}}}}.Canonical()
	to := s.Forwards[0].To
	require.InDelta(t, 2731, to[0].Weight, 2)
	require.InDelta(t, 1366, to[1].Weight, 2)
	require.Equal(t, 1, to[2].Weight)
	require.Equal(t, s, s.Canonical())
}

// randomState is small, so that two of them have much in common.
func randomState(r *rand.Rand) nat.State {
	var s nat.State
	pools := map[bool]nat.Pool{false: randomPools(r, "192.0.2.%d"), true: randomPools(r, "2001:db8::%d")}
	for _, p := range []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.0.0/17", "10.1.128.0/17", "fd00::/16", "::/0", "0.0.0.0/0"} {
		if r.IntN(3) == 0 {
			s.Networks = append(s.Networks, nat.Network{Prefix: netip.MustParsePrefix(p), To: randomPool(pools, p)})
		}
		if r.IntN(3) == 0 {
			s.Exclude = append(s.Exclude, netip.MustParsePrefix(p))
		}
		if r.IntN(3) == 0 {
			s.Virtual = append(s.Virtual, nat.Virtual{Prefix: netip.MustParsePrefix(p), Miss: nat.Drop})
		}
	}
	s.Redirects, s.Capture = randomRedirects(r), randomCapture(r)
	for _, p := range []string{"192.0.2.0/24", "192.0.2.0/25", "198.51.100.1/32", "2001:db8::/64", "0.0.0.0/0"} {
		if r.IntN(3) == 0 {
			s.Local = append(s.Local, netip.MustParsePrefix(p))
		}
	}
	for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
		if r.IntN(2) == 0 {
			s.Localhost = append(s.Localhost, netip.MustParseAddr(a))
		}
	}
	for _, a := range []string{"10.96.0.1", "10.96.0.2", "fd96::1", "0.0.0.0", "::"} {
		addr := netip.MustParseAddr(a)
		for port := range 3 {
			if r.IntN(2) == 0 {
				continue
			}
			f := nat.Forward{
				Addr: addr, Port: uint16(80 + port), Proto: []nat.Proto{nat.TCP, nat.UDP, nat.SCTP}[r.IntN(3)],
				Name: []string{"", "a", "b"}[r.IntN(3)], Empty: nat.Refusal(r.IntN(2)), Masquerade: nat.Masquerade(r.IntN(4)), Drain: nat.Drain(r.IntN(3)),
				Affinity: []time.Duration{0, time.Second, 3 * time.Hour}[r.IntN(3)],
			}
			for _, p := range []string{"198.51.100.0/24", "198.51.100.128/25", "0.0.0.0/0", "2001:db8::/32", "2001:db8::1/128"} {
				if p := netip.MustParsePrefix(p); p.Addr().Is4() == addr.Is4() && r.IntN(3) == 0 {
					f.Allow = append(f.Allow, p)
				} else if p.Addr().Is4() == addr.Is4() && r.IntN(3) == 0 {
					f.Deny = append(f.Deny, p)
				}
			}
			if r.IntN(6) == 0 {
				f.Algorithm = []nat.Algorithm{nat.SourceHash, nat.RoundRobin}[r.IntN(2)]
			}
			if r.IntN(4) == 0 && !addr.IsUnspecified() {
				f.Elsewhere, f.Algorithm, f.Affinity = true, nat.Random, 0
			}
			if f.Drain == nat.DrainLater {
				f.Grace = time.Minute
			}
			near := r.IntN(3) == 0 && !f.Elsewhere
			for range r.IntN(5) {
				to := netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(4))})
				if addr.Is6() {
					to = netip.MustParseAddr("fd00::1")
				}
				if to.IsUnspecified() {
					continue
				}
				target := nat.Target{Addr: to, Port: uint16(8080 + r.IntN(2)), Weight: r.IntN(4)}
				if near && r.IntN(2) == 0 {
					f.Near = append(f.Near, target)
				}
				if !near || r.IntN(2) == 0 {
					f.To = append(f.To, target)
				}
			}
			if r.IntN(20) == 0 && len(f.To) > 0 {
				f.To[0].Weight = 1 << 6
			}
			s.Forwards = append(s.Forwards, f)
		}
	}
	r.Shuffle(len(s.Forwards), func(i, j int) { s.Forwards[i], s.Forwards[j] = s.Forwards[j], s.Forwards[i] })
	return s
}

// FuzzDiff holds Diff and the elements that it leads to against their laws.
func FuzzDiff(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Add(uint64(3), uint64(3))
	f.Fuzz(func(t *testing.T, a, b uint64) { laws(t, a, b) })
}

func TestDiffLaws(t *testing.T) {
	t.Parallel()
	for i := range uint64(300) {
		laws(t, i, i+1)
	}
}

func laws(t *testing.T, a, b uint64) {
	have, want := randomState(rand.New(rand.NewPCG(a, 1))), randomState(rand.New(rand.NewPCG(b, 2)))
	require.NoError(t, have.Validate())
	require.NoError(t, want.Validate())
	require.True(t, nat.Diff(have, have).Empty())
	require.Equal(t, have.Canonical(), have.Canonical().Canonical())
	_, got := nat.Edits(have, want)
	require.Equal(t, want.Canonical(), got, "apply(Diff(have, want), have) is want")
	faults, direct := nat.Contents(want)
	require.Empty(t, faults)
	faults, round := nat.Contents(have, want)
	require.Empty(t, faults)
	for _, m := range []map[string]string{direct, round} {
		maps.DeleteFunc(m, func(k, _ string) bool { return strings.HasPrefix(k, "draining") })
		// Which target sits in which slot, and which lane has which number,
		// depends on the way.
		for k := range m {
			if strings.HasPrefix(k, "targets") || strings.HasPrefix(k, "forwards") || strings.HasPrefix(k, "near") || strings.HasPrefix(k, "far") || strings.HasPrefix(k, "sticky") {
				m[k] = ""
			}
			if strings.HasPrefix(k, "lanes") || strings.HasPrefix(k, "draws") || strings.HasPrefix(k, "learners") {
				delete(m, k)
			}
		}
	}
	require.Equal(t, direct, round, "the way to a State leaves no trace")
	faults, empty := nat.Contents(have, want, nat.State{})
	require.Empty(t, faults)
	for k := range empty {
		require.True(t, strings.HasPrefix(k, "lanes") || strings.HasPrefix(k, "draws") || strings.HasPrefix(k, "learners") || strings.HasPrefix(k, "local") || strings.HasPrefix(k, "draining"), k)
	}
}
