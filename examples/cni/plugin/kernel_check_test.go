package plugin_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/ipam"
)

// TestCheckNamesDamage damages one object after the other that ADD made, and has CHECK name it.
func TestCheckNamesDamage(t *testing.T) {
	t.Parallel()
	damages := []struct {
		name  string
		words []string // of CHECK's message
		where string   // node, pod, or nothing for what do does
		do    string
	}{
		{"link down", []string{"host", "state down -> up"}, "node", "ip link set LINK down"},
		{"link gone", []string{"+ pair LINK"}, "node", "ip link del LINK"},
		{"off the bridge", []string{"LINK host", "bridge none -> cni0"}, "node", "ip link set LINK nomaster"},
		{"hairpin", []string{"hairpin off -> on"}, "node", "bridge link set dev LINK hairpin off"},
		{"mtu", []string{"mtu 1400 -> 1500"}, "node", "ip link set LINK mtu 1400"},
		{"gateway", []string{"bridge cni0 address 10.88.0.1/16"}, "node", "ip addr del 10.88.0.1/16 dev cni0"},
		{"IPv6 gateway", []string{"bridge cni0 address fd88::1/64"}, "node", "ip addr del fd88::1/64 dev cni0"},
		{"bridge down", []string{"bridge cni0", "state down -> up"}, "node", "ip link set cni0 down"},
		{"bridge gone", []string{"+ bridge cni0"}, "node", "ip link del cni0"},
		{"address", []string{"pod address 10.88.0.2/16"}, "pod", "ip addr del 10.88.0.2/16 dev eth0"},
		{"IPv6 address", []string{"pod address fd88::2/64"}, "pod", "ip addr del fd88::2/64 dev eth0"},
		{"interface down", []string{"pod", "state down -> up"}, "pod", "ip link set eth0 down"},
		{"mac", []string{"pod", "mac 02:00:00:00:00:99 ->"}, "pod", "ip link set eth0 address 02:00:00:00:00:99"},
		{"lock", []string{"port LINK is not locked to 0a:58:0a:58:00:02"}, "node", "bridge link set dev LINK locked off"},
		{"lock's entry", []string{"forwarding entry 0a:58:0a:58:00:02 of port LINK is missing"}, "node", "bridge fdb del 0a:58:0a:58:00:02 dev LINK master"},
		{"source rule", []string{"rule from 10.88.0.2", "missing"}, "pod", "ip rule del from 10.88.0.2"},
		{"IPv6 source rule", []string{"rule from fd88::2", "missing"}, "pod", "ip -6 rule del from fd88::2"},
		{"source route", []string{"route 0.0.0.0/0 in table 100"}, "pod", "ip route del default table 100"},
		{"pod sysctl", []string{"log_martians", "is 0 instead of 1"}, "pod", "sysctl -qw net.ipv4.conf.eth0.log_martians=0"},
		{"promisc", []string{"promisc of eth0 is false"}, "pod", "ip link set eth0 promisc off"},
		{"allmulti", []string{"allmulti of eth0 is false"}, "pod", "ip link set eth0 allmulticast off"},
		{"txqlen", []string{"txQLen of eth0 is 5"}, "pod", "ip link set eth0 txqueuelen 5"},
		{"forwarding", []string{"net.ipv4.ip_forward is 0"}, "node", "sysctl -qw net.ipv4.ip_forward=0"},
		{"IPv6 forwarding", []string{"net.ipv6.conf.all.forwarding is 0"}, "node", "sysctl -qw net.ipv6.conf.all.forwarding=0"},
		{"masquerade", []string{"10.88.0.0/16"}, "node", "nft delete element inet podplumb-cni networks4 { 10.88.0.0/16 }"},
		{"IPv6 masquerade", []string{"fd88::/64"}, "node", "nft delete element inet podplumb-cni networks6 { fd88::/64 }"},
		{"host port", []string{"0.0.0.0:8080/tcp"}, "node", "nft delete element inet podplumb-cni forwards4 { 0.0.0.0 . tcp . 8080 }"},
		{"UDP host port", []string{"0.0.0.0:8080/udp"}, "node", "nft delete element inet podplumb-cni forwards4 { 0.0.0.0 . udp . 8080 }"},
		{"SCTP host port", []string{"[::]:8080/sctp"}, "node", "nft delete element inet podplumb-cni forwards6 { :: . sctp . 8080 }"},
		{"host port's target", []string{"0.0.0.0:8080/tcp"}, "node", "nft delete element inet podplumb-cni targets4 { 0.0.0.0 . tcp . 8080 . 0 }"},
		{"localhost", []string{"table podplumb-cni", "0.0.0.0:8080/tcp"}, "node", "nft delete element inet podplumb-cni localhost4 { 127.0.0.1 }"},
		{"all rules", []string{"table", "10.88.0.0/16", "[::]:8080/sctp"}, "node", "nft flush ruleset"},
		{"limit towards the pod", []string{"queue of LINK", "8000000"}, "node", "tc qdisc del dev LINK root"},
		{"limit from the pod", []string{"queue of IFB", "8000000"}, "node", "tc qdisc del dev IFB root"},
		{"way to the ifb device", []string{"is not led from LINK to IFB"}, "node", "tc qdisc del dev LINK ingress"},
		{"ifb device", []string{"IFB is gone"}, "node", "ip link del IFB"},
		{"ifb device down", []string{"IFB is down"}, "node", "ip link set IFB down"},
		{"lease", []string{"10.88.0.2 is not leased"}, "", "lease"},
		{"claim", []string{"host port 0.0.0.0:8080/tcp is not claimed"}, "", "claim"},
	}
	for _, d := range damages {
		t.Run(strings.ReplaceAll(d.name, " ", "-"), func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			p := n.pod(t)
			full := n.everything()
			r := n.add(t, p, full)
			n.ok(t, "CHECK", p, full)
			link := r.Interfaces[1].Name
			names := strings.NewReplacer("LINK", link, "IFB", "ifb"+strings.TrimPrefix(link, "veth"))
			command := strings.Fields(names.Replace(d.do))
			switch d.where {
			case "node":
				in(t, n.ns, command[0], command[1:]...)
			case "pod":
				in(t, p.ns, command[0], command[1:]...)
			default:
				n.lose(t, d.do)
			}
			var words []string
			for _, w := range d.words {
				words = append(words, names.Replace(w))
			}
			n.refused(t, 104, "CHECK", p, full, words...)
			n.ok(t, "DEL", p, full)
		})
	}
}

// lose removes what no program is needed for.
func (n *node) lose(t *testing.T, what string) {
	t.Helper()
	data := filepath.Join(n.dir, "data")
	switch what {
	case "lease":
		s, err := ipam.Open(t.Context(), filepath.Join(data, "net", "leases"))
		require.NoError(t, err)
		_, err = s.Retain(func(uint64) bool { return false })
		require.NoError(t, err)
		require.NoError(t, s.Close())
	case "claim":
		in(t, n.ns, "rm", filepath.Join(data, ".node/ports/tcp-8080@0.0.0.0"))
	}
}

// TestFlushedRules has an outsider flush all rules: CHECK says so and puts back what the container had, and so does the next ADD for all.
func TestFlushedRules(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	a, b := n.pod(t), n.pod(t)
	published := n.conf.with("runtimeConfig", ports(8080, 80, "tcp"))
	n.ok(t, "ADD", a, published)
	whole := elements(in(t, n.ns, "nft", "list", "ruleset"))
	require.Greater(t, len(whole), 5)
	in(t, n.ns, "nft", "flush", "ruleset")
	n.refused(t, 104, "CHECK", a, published, "lost, and has again")
	n.ok(t, "CHECK", a, published)
	require.Equal(t, whole, elements(in(t, n.ns, "nft", "list", "ruleset")))
	in(t, n.ns, "nft", "flush", "ruleset")
	n.ok(t, "ADD", b, nil)
	n.ok(t, "CHECK", a, published)
	n.ok(t, "CHECK", b, nil)
	require.Equal(t, whole, elements(in(t, n.ns, "nft", "list", "ruleset")))

	// The other commands do without the table.
	in(t, n.ns, "nft", "flush", "ruleset")
	n.ok(t, "STATUS", nil, published)
	valid := []any{config{"containerID": a.id, "ifname": "eth0"}, config{"containerID": b.id, "ifname": "eth0"}}
	n.ok(t, "GC", nil, published.with("cni.dev/valid-attachments", valid))
	n.ok(t, "DEL", b, nil)
	n.refused(t, 104, "CHECK", a, published, "lost, and has again")
	require.Equal(t, whole, elements(in(t, n.ns, "nft", "list", "ruleset")))
	in(t, n.ns, "nft", "flush", "ruleset")
	n.ok(t, "DEL", a, published)
	n.ok(t, "GC", nil, published.with("cni.dev/valid-attachments", []any{}))
	require.Empty(t, in(t, n.ns, "nft", "list", "ruleset"))
}
