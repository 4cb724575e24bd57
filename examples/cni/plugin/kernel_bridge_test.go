package plugin_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// TestPortIsolation keeps pods of one bridge from each other and lets them reach the node.
func TestPortIsolation(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.outside(t)
	c := n.conf.with("portIsolation", true)
	a, b := n.pod(t), n.pod(t)
	n.ok(t, "ADD", a, c)
	b4, b6 := addrs(t, n.add(t, b, c))
	n.ok(t, "CHECK", a, c)
	for _, x := range [][2]string{{b4, "10.88.0.1"}, {b6, "fd88::1"}} {
		serve(t, b.ns, on(x[0], 80))
		serve(t, n.ns, on(x[1], 80))
		require.NotEmpty(t, ask(t, a.ns, on(x[1], 80)))
		require.NotEmpty(t, ask(t, n.ns, on(x[0], 80)))
		_, err := tryAsk(t.Context(), a.ns, on(x[0], 80), 300*time.Millisecond)
		require.Error(t, err)
	}
}

// TestSpoofedMAC drops what a container sends from another MAC address than its own.
func TestSpoofedMAC(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := n.conf.with("macspoofchk", true)
	a, b := n.pod(t), n.pod(t)
	n.ok(t, "ADD", a, c)
	b4, b6 := addrs(t, n.add(t, b, c))
	serve(t, b.ns, on(b4, 80))
	serve(t, b.ns, on(b6, 80))
	require.NotEmpty(t, ask(t, a.ns, on(b4, 80)))
	require.NotEmpty(t, ask(t, a.ns, on(b6, 80)))
	in(t, a.ns, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:99")
	for _, to := range []string{b4, b6} {
		_, err := tryAsk(t.Context(), a.ns, on(to, 80), 300*time.Millisecond)
		require.Error(t, err)
	}
	in(t, a.ns, "ip", "link", "set", "eth0", "address", "0a:58:0a:58:00:02")
	require.NotEmpty(t, ask(t, a.ns, on(b4, 80)))
	n.ok(t, "CHECK", b, c)
}

// TestDisabledInterface leaves the container's interface down and without addresses.
func TestDisabledInterface(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	c := n.conf.with("disableContainerInterface", true).with("ipam", nil).with("isDefaultGateway", nil).with("ipMasq", nil)
	r := n.add(t, p, c)
	require.Len(t, r.Interfaces, 3)
	require.Empty(t, r.IPs)
	require.Contains(t, in(t, p.ns, "ip", "link", "show", "eth0"), "state DOWN")
	n.ok(t, "CHECK", p, c)
	n.ok(t, "DEL", p, c)
	n.refused(t, 7, "ADD", p, n.conf.with("disableContainerInterface", true), "excludes ipam")
}

// TestLayer2 has a network without addresses, and a bridge that is no gateway.
func TestLayer2(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a, b := n.pod(t), n.pod(t)
	c := n.conf.with("ipam", nil).with("isDefaultGateway", nil).with("ipMasq", nil).with("promiscMode", true).with("hairpinMode", nil).with("mtu", 1400)
	for i, p := range []*pod{a, b} {
		r := n.add(t, p, c)
		require.Equal(t, 1400, r.Interfaces[2].Mtu)
		n.ok(t, "CHECK", p, c)
		in(t, p.ns, "ip", "addr", "add", []string{"10.5.0.1/24", "10.5.0.2/24"}[i], "dev", "eth0")
	}
	serve(t, b.ns, on("10.5.0.2", 80))
	require.Equal(t, "10.5.0.1", ask(t, a.ns, on("10.5.0.2", 80)))
	require.Contains(t, in(t, n.ns, "ip", "-d", "link", "show", "cni0"), "promiscuity 1")
	n.ok(t, "DEL", a, c)
	n.ok(t, "DEL", b, c)
}

// TestForceAddress replaces a gateway address that the network no longer has.
func TestForceAddress(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	n.ok(t, "ADD", p, nil)
	n.ok(t, "DEL", p, nil)
	moved := n.conf.with("ipam", config{"dataDir": n.hostLocal(), "ranges": []any{[]any{config{"subnet": "10.66.0.0/16"}}}})
	n.refused(t, 103, "ADD", p, moved, "10.88.0.1/16", "forceAddress")
	moved = moved.with("forceAddress", true)
	n.ok(t, "ADD", p, moved)
	n.ok(t, "CHECK", p, moved)
	require.NotContains(t, in(t, n.ns, "ip", "addr", "show", "cni0"), "10.88.0.1")
}

// TestBorrowedBridge uses a bridge that others have made, as one that the stock plugins leave, and keeps to what they do to it.
func TestBorrowedBridge(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	in(t, n.ns, "ip", "link", "add", "cni0", "type", "bridge")
	in(t, n.ns, "ip", "address", "add", "10.88.0.9/16", "dev", "cni0")
	in(t, n.ns, "ip", "address", "add", "fd99::1/64", "dev", "cni0", "nodad")
	before := in(t, n.ns, "ip", "-d", "link", "show", "cni0")
	n.refused(t, 103, "ADD", n.pod(t), nil, "10.88.0.9/16", "forceAddress")
	forced := n.conf.with("forceAddress", true)
	a, b := n.pod(t), n.pod(t)
	result := n.add(t, a, forced)
	require.Equal(t, "cni0", result.Interfaces[0].Name)
	require.Contains(t, before, result.Interfaces[0].Mac)
	n.ok(t, "CHECK", a, forced)
	n.ok(t, "ADD", b, nil)
	n.ok(t, "CHECK", b, nil)
	have := in(t, n.ns, "ip", "-o", "address", "show", "cni0")
	for _, want := range []string{"10.88.0.1/16", "fd88::1/64", "fd99::1/64"} {
		require.Contains(t, have, want)
	}
	require.NotContains(t, have, "10.88.0.9")
	v4, v6 := addrs(t, result)
	for _, own := range []string{v4, v6} {
		serve(t, a.ns, on(own, 80))
		require.NotEmpty(t, ask(t, b.ns, on(own, 80)))
		require.NotEmpty(t, ask(t, n.ns, on(own, 80)))
	}
	in(t, n.ns, "ip", "address", "del", "10.88.0.1/16", "dev", "cni0")
	in(t, n.ns, "ip", "link", "set", "cni0", "down")
	n.refused(t, 104, "CHECK", a, forced, "10.88.0.1/16", "bridge cni0 is down")
	in(t, n.ns, "ip", "link", "set", "cni0", "up")
	n.ok(t, "DEL", a, forced)
	n.ok(t, "DEL", b, nil)
	n.ok(t, "GC", nil, n.conf.with("cni.dev/valid-attachments", []any{}))
	in(t, n.ns, "ip", "link", "set", "cni0", "down")
	require.Equal(t, settings(before), settings(in(t, n.ns, "ip", "-d", "link", "show", "cni0")), "all else is as it was")
}

// settings are what a description of a link says that somebody has set.
func settings(link string) []string {
	return regexp.MustCompile(`(mtu|ether|ageing_time|vlan_filtering|mcast_snooping|nf_call_iptables|group_fwd_mask|alias) \S+`).FindAllString(link, -1)
}

// requireVLANs skips the test where bridges cannot filter VLANs.
func requireVLANs(t *testing.T) {
	t.Helper()
	ns, err := netns.New()
	require.NoError(t, err)
	defer ns.Close()
	c, err := veth.New(veth.Config{NetNS: ns})
	require.NoError(t, err)
	defer c.Close()
	_, err = c.Sync(t.Context(), veth.State{Bridges: []veth.Bridge{{Name: "probe", VLANFiltering: true}}})
	if err != nil && !errors.Is(err, errors.ErrUnsupported) && !strings.Contains(err.Error(), "not supported") {
		require.NoError(t, err)
	}
	kerneltest.Needs(t, "bridges that filter VLANs", err)
}

// TestVLAN has networks of several VLANs, each with its gateway, on one bridge.
func TestVLAN(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	requireVLANs(t)
	network := func(name, subnet4, subnet6 string) config {
		return n.conf.with("name", name).with("ipam", config{"dataDir": n.hostLocal(), "ranges": []any{[]any{config{"subnet": subnet4}}, []any{config{"subnet": subnet6}}}})
	}
	red, blue := network("red", "10.1.0.0/16", "fd01::/64").with("vlan", 10), network("blue", "10.2.0.0/16", "fd02::/64").with("vlan", 20)
	trunk := n.conf.with("name", "trunk").with("ipam", nil).with("isDefaultGateway", nil).with("ipMasq", nil).
		with("vlanTrunk", []any{config{"minID": 10, "maxID": 19}, config{"id": 30}}).with("preserveDefaultVlan", false)
	r1, r2, b1, tr := n.pod(t), n.pod(t), n.pod(t), n.pod(t)
	n.ok(t, "ADD", r1, red)
	other4, other6 := addrs(t, n.add(t, r2, red))
	blue4, blue6 := addrs(t, n.add(t, b1, blue))
	link := n.add(t, tr, trunk).Interfaces[1].Name
	n.ok(t, "CHECK", r1, red)
	n.ok(t, "CHECK", b1, blue)
	n.ok(t, "CHECK", tr, trunk)
	for _, x := range []struct{ other, blue, gateway string }{{other4, blue4, "10.1.0.1"}, {other6, blue6, "fd01::1"}} {
		serve(t, r2.ns, on(x.other, 80))
		serve(t, b1.ns, on(x.blue, 80))
		serve(t, n.ns, on(x.gateway, 80))
		require.NotEmpty(t, ask(t, r1.ns, on(x.other, 80)), "in the same VLAN")
		require.NotEmpty(t, ask(t, r1.ns, on(x.gateway, 80)), "the gateway in the VLAN")
		require.NotEmpty(t, ask(t, r1.ns, on(x.blue, 80)), "to another VLAN, through the gateways")
	}
	vlans := in(t, n.ns, "bridge", "vlan", "show", "dev", link)
	require.NotContains(t, vlans, "PVID")
	require.Contains(t, strings.Join(strings.Fields(vlans), " "), "30")
	in(t, n.ns, "ip", "link", "del", "cni0.10")
	n.refused(t, 104, "CHECK", r1, red, "cni0.10")
	for p, c := range map[*pod]config{r1: red, r2: red, b1: blue, tr: trunk} {
		n.ok(t, "DEL", p, c)
	}
}
