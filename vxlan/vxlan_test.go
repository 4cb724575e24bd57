package vxlan_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/vxlan"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

var (
	addr   = netip.MustParseAddr
	prefix = netip.MustParsePrefix
)

func mac(s string) vxlan.MAC {
	m, err := vxlan.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// peer is the n-th node of a test overlay, 0 to 65535: VTEP 192.168.x.y, pods 10.x.y.0/24 and fd44:0:0:n::/64.
func peer(n int) vxlan.Peer {
	return vxlan.Peer{
		VTEP:    netip.AddrFrom4([4]byte{172, 16, byte(n >> 8), byte(n)}),
		Tunnel:  []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), addr(fmt.Sprintf("fd44:0:0:%x::", n))},
		Subnets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24), prefix(fmt.Sprintf("fd44:0:0:%x::/64", n))},
	}
}

func peers(from, to int) []vxlan.Peer {
	var out []vxlan.Peer
	for n := from; n < to; n++ {
		out = append(out, peer(n))
	}
	return out
}

func TestMAC(t *testing.T) {
	t.Parallel()
	m := vxlan.MACFromKey("node-1")
	require.Equal(t, vxlan.MACFromKey("node-1"), m)
	require.NotEqual(t, vxlan.MACFromKey("node-2"), m)
	require.Equal(t, byte(2), m[0]&3, "locally administered, not a group")
	require.True(t, m.IsUnicast())
	// The derivation is a promise: peers of another release must arrive at the same address.
	require.Equal(t, "72:84:2e:91:e6:b4", m.String())
	back, err := vxlan.ParseMAC(strings.ToUpper(m.String()))
	require.NoError(t, err)
	require.Equal(t, m, back)
	for _, bad := range []string{"", "02:00:00:00:00", "02:00:00:00:00:0g", "02-00-00-00-00-01", "02:00:00:00:00:01:02", "0200:00:00:00:01x"} {
		_, err := vxlan.ParseMAC(bad)
		require.ErrorContains(t, err, "parse MAC", bad)
	}
	var read struct{ A, B vxlan.MAC }
	require.NoError(t, json.Unmarshal([]byte(`{"A":"02:00:00:00:00:01","B":""}`), &read))
	require.Equal(t, mac("02:00:00:00:00:01"), read.A)
	require.True(t, read.B.IsZero())
}

// TestPlans compares the plans between the states of testdata/*.txtar.
func TestPlans(t *testing.T) {
	t.Parallel()
	golden.Cases(t, "testdata/*.txtar", func(t *testing.T, c *golden.Case) {
		t.Parallel()
		have, want := state(t, c.File("have")), state(t, c.File("want"))
		plan := vxlan.Diff(have, want)
		c.Want("plan", plan.String())
		require.Equal(t, plan.Len(), strings.Count(plan.String(), "\n"))
		require.Equal(t, plan.Len() == 0, plan.Empty())
		require.NoError(t, want.Validate())
		require.Equal(t, vxlan.Regroup(want), plan.Carry(have), "the plan leads to what is wanted")
		require.Empty(t, vxlan.Diff(want, want).String())
	})
}

func state(t *testing.T, text string) vxlan.State {
	t.Helper()
	var s vxlan.State
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	if strings.TrimSpace(text) != "" {
		require.NoError(t, d.Decode(&s))
	}
	return s
}

func TestResolve(t *testing.T) {
	t.Parallel()
	eth0 := vxlan.Link{Name: "eth0", MTU: 1500, Addrs: []netip.Prefix{prefix("fe80::1/64"), prefix("192.168.50.10/24"), prefix("fd50::10/64")}}
	lo := vxlan.Link{Name: "lo", MTU: 65536, Addrs: []netip.Prefix{prefix("127.0.0.1/8"), prefix("::1/128"), prefix("203.0.113.1/32")}}
	near, far, six := peer(1), peer(2), peer(3)
	near.VTEP = addr("192.168.50.11")
	near.Hosts = []netip.Addr{addr("fd50::11")}
	six.VTEP = addr("fd50::11")

	got, err := vxlan.ResolveOn(vxlan.State{Devices: []vxlan.Device{{Name: "vx0", VNI: 1, Underlay: "eth0", DirectRouting: true, Peers: []vxlan.Peer{near, far}}}}, lo, eth0)
	require.NoError(t, err)
	d := got.Devices[0]
	require.Equal(t, addr("192.168.50.10"), d.Source, "the first global address of the peers' family")
	require.Equal(t, 1450, d.MTU)
	require.Equal(t, uint16(vxlan.DefaultPort), d.Port)
	require.Equal(t, vxlan.MACFromKey("192.168.50.10"), d.MAC)
	require.False(t, d.DirectRouting)
	require.Equal(t, far.VTEP, d.Peers[0].VTEP)
	require.Empty(t, d.Peers[0].Via, "not in a subnet of the underlay")
	require.Equal(t, []vxlan.Hop{{Addr: addr("192.168.50.11"), Link: "eth0"}, {Addr: addr("fd50::11"), Link: "eth0"}}, d.Peers[1].Via)
	require.Empty(t, d.Peers[1].Hosts)
	require.Equal(t, vxlan.MACFromKey("192.168.50.11"), d.Peers[1].MAC)

	again, err := vxlan.ResolveOn(got, lo, eth0)
	require.NoError(t, err)
	require.Equal(t, got, again, "a resolved state stays as it is")
	require.True(t, vxlan.Diff(got, vxlan.State{Devices: []vxlan.Device{{Name: "vx0", VNI: 1, Underlay: "eth0", Peers: got.Devices[0].Peers}}}).Empty(), "what the kernel decides matches anything")

	got, err = vxlan.ResolveOn(vxlan.State{Devices: []vxlan.Device{{Name: "vx0", VNI: 1, Underlay: "eth0", Peers: []vxlan.Peer{six}}}}, eth0)
	require.NoError(t, err)
	require.Equal(t, addr("fd50::10"), got.Devices[0].Source)
	require.Equal(t, 1430, got.Devices[0].MTU)

	got, err = vxlan.ResolveOn(vxlan.State{Devices: []vxlan.Device{{Name: "vx0", VNI: 1, Source: addr("203.0.113.1"), DirectRouting: true, MTU: 1400, Peers: []vxlan.Peer{far}}}}, eth0, lo)
	require.NoError(t, err)
	require.Equal(t, 1400, got.Devices[0].MTU, "explicit")
	require.Empty(t, got.Devices[0].Peers[0].Via, "a host address is no subnet")

	for name, d := range map[string]vxlan.Device{
		"underlay eth7":           {Name: "vx0", VNI: 1, Underlay: "eth7"},
		"the source 198.51.100.9": {Name: "vx0", VNI: 1, Source: addr("198.51.100.9")},
		"no global address of":    {Name: "vx0", VNI: 1, Underlay: "bare", Peers: []vxlan.Peer{far}},
	} {
		_, err := vxlan.ResolveOn(vxlan.State{Devices: []vxlan.Device{d}}, eth0, vxlan.Link{Name: "bare", MTU: 1500})
		require.ErrorContains(t, err, name)
		require.ErrorIs(t, err, fs.ErrNotExist)
		var op *vxlan.OpError
		require.ErrorAs(t, err, &op)
		require.Equal(t, "device vx0", op.Object)
	}
	_, err = vxlan.ResolveOn(vxlan.State{Devices: []vxlan.Device{{Name: "vx0", VNI: 1, Underlay: "thin", Peers: peers(1, 2)}}}, vxlan.Link{Name: "thin", MTU: 1300, Addrs: eth0.Addrs})
	require.ErrorContains(t, err, "leaves 1250 inside; 1280 is the least")
	_, err = vxlan.ResolveOn(vxlan.State{Devices: []vxlan.Device{{Name: "vx0", VNI: 1, Underlay: "eth0", MTU: 9000}}}, eth0)
	require.ErrorContains(t, err, "mtu 9000 does not fit underlay eth0")
}

func TestForeignAndErrors(t *testing.T) {
	t.Parallel()
	f := vxlan.Foreign{Kind: vxlan.ForeignRoute, Link: "vx0", Object: "10.9.0.0/16 via 10.9.0.1", Origin: "protocol 4"}
	require.Equal(t, "route 10.9.0.0/16 via 10.9.0.1 on vx0 (protocol 4)", f.String())
	require.Equal(t, "ForeignKind(99)", vxlan.ForeignKind(99).String())
	err := error(&vxlan.OpError{Op: "plan", Object: "state", Err: errors.Join(&vxlan.ConflictError{Object: "route 10.9.0.0/16", Foreign: f})})
	require.EqualError(t, err, "vxlan: plan state: route 10.9.0.0/16: in its place stands route 10.9.0.0/16 via 10.9.0.1 on vx0 (protocol 4)")
	require.ErrorIs(t, err, fs.ErrExist)
	var conflict *vxlan.ConflictError
	require.ErrorAs(t, err, &conflict)
	require.Equal(t, f, conflict.Foreign)
}
