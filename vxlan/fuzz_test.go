package vxlan_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/vxlan"
)

// random makes a valid State out of few values, so that two of them share much.
func random(r *rand.Rand) vxlan.State {
	var s vxlan.State
	subnet := 0
	for i := range r.IntN(3) {
		d := vxlan.Device{
			Name: fmt.Sprintf("vx%d", i), VNI: uint32(1 + i + 10*r.IntN(2)), Source: addr("192.0.2.1"), MTU: 1400 + 10*r.IntN(2),
			MAC: mac("02:00:00:00:00:0a"), Learning: r.IntN(4) == 0, TTL: uint8(r.IntN(2)),
		}
		for a := range r.IntN(3) {
			d.Addrs = append(d.Addrs, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, byte(a)}), 24+8*r.IntN(2)))
		}
		for _, n := range r.Perm(5)[:r.IntN(5)] {
			p := vxlan.Peer{VTEP: netip.AddrFrom4([4]byte{192, 0, 2, byte(10 + n)}), Flood: r.IntN(3) == 0}
			if r.IntN(4) > 0 {
				p.MAC = mac(fmt.Sprintf("02:00:00:00:0%d:%02x", r.IntN(2), n))
				p.Tunnel = []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i), byte(n), 255}), addr(fmt.Sprintf("fd00:%d:%d::", i, n))}[r.IntN(2):]
			}
			if r.IntN(3) == 0 {
				p.Stations = []vxlan.MAC{mac(fmt.Sprintf("02:00:00:00:09:%02x", n))}
			}
			if r.IntN(3) == 0 {
				p.Via = append(p.Via, vxlan.Hop{Addr: p.VTEP, Link: "eth0"})
			}
			if r.IntN(3) == 0 {
				p.Via = append(p.Via, vxlan.Hop{Addr: addr(fmt.Sprintf("2001:db8::%d", n)), Link: "eth0"})
			}
			for range r.IntN(3) {
				subnet++
				v4, v6 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 100, byte(subnet), 0}), 24), prefix(fmt.Sprintf("fd99:0:0:%x::/64", subnet))
				for _, s := range []netip.Prefix{v4, v6} {
					if hop(p, s.Addr().Is4()) && r.IntN(4) > 0 {
						p.Subnets = append(p.Subnets, s)
					}
				}
			}
			if len(p.Tunnel)+len(p.Stations)+len(p.Subnets) == 0 {
				p.Flood = true
			}
			d.Peers = append(d.Peers, p)
		}
		s.Devices = append(s.Devices, d)
	}
	return s
}

func hop(p vxlan.Peer, v4 bool) bool {
	for _, t := range p.Tunnel {
		if t.Is4() == v4 {
			return true
		}
	}
	for _, h := range p.Via {
		if h.Addr.Is4() == v4 {
			return true
		}
	}
	return false
}

// laws holds for any two valid states. With exact, both say everything, so that the outcome is what is wanted to the letter.
func laws(t *testing.T, have, want vxlan.State, exact bool) {
	t.Helper()
	require.Empty(t, vxlan.Diff(have, have).String())
	require.Empty(t, vxlan.Diff(want, want).String())
	plan := vxlan.Diff(have, want)
	require.Empty(t, vxlan.Diff(plan.Carry(have), want).String(), "apply(Diff(a, b), a) is b:\n%s", plan)
	if exact {
		require.Equal(t, vxlan.Regroup(want), plan.Carry(have), "apply(Diff(a, b), a) is b:\n%s", plan)
	}
	require.Equal(t, plan.Len(), strings.Count(plan.String(), "\n"))
	// What is read from the kernel says the same as what was written.
	require.True(t, vxlan.Diff(vxlan.Regroup(want), want).Empty())
	require.True(t, vxlan.Diff(want, vxlan.Regroup(want)).Empty())
	require.Equal(t, vxlan.Regroup(want), vxlan.Regroup(vxlan.Regroup(want)))
}

func TestDiffLaws(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		have, want := random(r), random(r)
		require.NoError(t, have.Validate(), "seed %d", seed)
		laws(t, have, want, true)
	}
}

// FuzzState reads two states from JSON, whatever they are. Nothing may panic, and for what is valid the laws hold.
func FuzzState(f *testing.F) {
	paths, err := filepath.Glob("testdata/*.txtar")
	require.NoError(f, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(f, err)
		_, rest, _ := strings.Cut(string(data), "-- have --\n")
		have, rest, _ := strings.Cut(rest, "-- want --\n")
		want, _, _ := strings.Cut(rest, "-- plan --\n")
		f.Add(have, want)
	}
	f.Fuzz(func(t *testing.T, a, b string) {
		var have, want vxlan.State
		if json.Unmarshal([]byte(a), &have) != nil || json.Unmarshal([]byte(b), &want) != nil {
			return
		}
		_ = vxlan.Diff(have, want).String()
		_ = vxlan.Regroup(have)
		_, _ = vxlan.ResolveOn(want, vxlan.Link{Name: "eth0", MTU: 1500, Addrs: []netip.Prefix{prefix("192.168.50.10/24")}})
		if have.Validate() == nil && want.Validate() == nil {
			laws(t, have, want, false)
		}
	})
}
