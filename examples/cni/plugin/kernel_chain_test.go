package plugin_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// after is a configuration for behind another plugin, whose result it gets.
func (n *node) after(result string) config {
	var prev any
	_ = json.Unmarshal([]byte(result), &prev)
	return config{
		"cniVersion": "1.1.0", "name": "net", "type": "podplumb-cni", "dataDir": n.conf["dataDir"].(string) + "-chain", "prevResult": prev,
		"capabilities": map[string]bool{"portMappings": true}, "ipMasq": true,
	}
}

// TestChained works on an interface that the plugin before made: host ports, limits, tuning and source routing.
func TestChained(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	world := n.outside(t)
	p := n.pod(t)
	first := n.conf.with("capabilities", nil).with("ipMasq", nil)
	result := n.ok(t, "ADD", p, first).stdout
	in(t, p.ns, "ip", "link", "set", "eth0", "txqueuelen", "1000")
	before, links := n.snapshot(t), in(t, p.ns, "ip", "-o", "-d", "link")
	rules := in(t, p.ns, "ip", "rule")
	asked := ports(8080, 80, "tcp").with("mac", "02:00:00:00:00:77").
		with("bandwidth", config{"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000})
	second := n.after(result).with("runtimeConfig", asked).with("mtu", 1400).with("promisc", true).with("allmulti", true).with("txQLen", 77).with("sourceRouting", true)
	var r struct {
		Interfaces []struct{ Name, Mac string }
		IPs        []struct{ Address string }
	}
	require.NoError(t, json.Unmarshal([]byte(n.ok(t, "ADD", p, second).stdout), &r))
	require.Equal(t, "02:00:00:00:00:77", r.Interfaces[2].Mac)
	require.Len(t, r.IPs, 2)
	n.ok(t, "CHECK", p, second)
	serve(t, p.ns, "0.0.0.0:80")
	require.Equal(t, outside4, ask(t, world, on(node4, 8080)))
	require.Contains(t, in(t, p.ns, "ip", "rule"), "from 10.88.0.2 lookup 100")
	n.refused(t, 100, "ADD", p, second.with("name", "net2"), "8080")
	in(t, p.ns, "ip", "link", "set", "eth0", "mtu", "1300")
	n.refused(t, 104, "CHECK", p, second, "mtu of eth0 is 1300 instead of 1400")
	n.ok(t, "DEL", p, second)
	n.ok(t, "DEL", p, second)
	require.Equal(t, before, n.snapshot(t))
	require.Equal(t, links, in(t, p.ns, "ip", "-o", "-d", "link"))
	require.Equal(t, rules, in(t, p.ns, "ip", "rule"))
	n.refused(t, 7, "ADD", p, second.with("ipam", n.conf["ipam"]), "ipam")
	n.refused(t, 7, "ADD", p, second.with("isGateway", true), "isGateway")
	n.refused(t, 6, "ADD", p, second.with("prevResult", config{"cniVersion": "1.1.0", "ips": 5}), "prevResult")
	n.ok(t, "DEL", p, first)
}

// TestChainKilled kills ADD behind another plugin after each step: DEL, also after another ADD, leaves the interface as it was.
func TestChainKilled(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	result := n.ok(t, "ADD", p, n.conf.with("capabilities", nil).with("ipMasq", nil)).stdout
	asked := ports(8080, 80, "tcp").with("bandwidth", config{"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 8_000_000, "egressBurst": 800_000})
	c := n.after(result).with("runtimeConfig", asked).with("mtu", 1400).with("sourceRouting", true)
	inside := func() string {
		return in(t, p.ns, "ip", "-o", "-d", "link") + in(t, p.ns, "ip", "rule") + in(t, p.ns, "ip", "-6", "rule") + in(t, p.ns, "ip", "route", "show", "table", "all")
	}
	before, untouched := n.snapshot(t), inside()
	steps := n.steps(t, "ADD", p, c)
	n.ok(t, "DEL", p, c)
	require.Equal(t, untouched, inside())
	for i, step := range steps {
		require.Equal(t, -1, n.call(t, "ADD", p, c, envKill+"="+step).code)
		if i%2 == 0 {
			n.ok(t, "ADD", p, c)
			n.ok(t, "CHECK", p, c)
		}
		n.ok(t, "DEL", p, c)
		require.Equal(t, before, n.snapshot(t), step)
		require.Equal(t, untouched, inside(), step)
	}
}

// TestSecondInterface puts one container into two networks; the first has the default route.
func TestSecondInterface(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	n.ok(t, "ADD", p, nil)
	second := n.conf.with("name", "second").with("bridge", "cni1").with("ipam", config{"dataDir": n.hostLocal(), "ranges": []any{[]any{config{"subnet": "10.99.0.0/16"}}}})
	n.ok(t, "ADD", p, second, "CNI_IFNAME=net1")
	n.ok(t, "CHECK", p, nil)
	n.ok(t, "CHECK", p, second, "CNI_IFNAME=net1")
	require.Contains(t, in(t, p.ns, "ip", "route"), "default via 10.88.0.1 dev eth0")
	// With routing by source, answers leave by the interface that they belong to.
	n.ok(t, "DEL", p, second, "CNI_IFNAME=net1")
	second = second.with("sourceRouting", true)
	source := n.add(t, p, second, "CNI_IFNAME=net1").IPs[0].Address.IP.String()
	n.ok(t, "CHECK", p, second, "CNI_IFNAME=net1")
	require.Contains(t, in(t, p.ns, "ip", "route", "get", "192.0.2.9", "from", source), "via 10.99.0.1 dev net1")
	require.Contains(t, in(t, p.ns, "ip", "route", "get", "192.0.2.9", "from", "10.88.0.2"), "via 10.88.0.1 dev eth0")
	n.ok(t, "DEL", p, second, "CNI_IFNAME=net1")
	require.NotContains(t, in(t, p.ns, "ip", "rule"), "10.99")
	n.ok(t, "CHECK", p, nil)
}

// TestRetuned does not take for damage what plugins later in the chain make of the container's interface.
func TestRetuned(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	var result map[string]any
	require.NoError(t, json.Unmarshal([]byte(n.ok(t, "ADD", p, nil).stdout), &result))
	in(t, p.ns, "ip", "link", "set", "eth0", "address", "02:00:00:00:00:77")
	in(t, p.ns, "ip", "link", "set", "eth0", "mtu", "1400")
	n.refused(t, 104, "CHECK", p, n.conf.with("prevResult", result), "mac 02:00:00:00:00:77")
	interfaces := result["interfaces"].([]any)
	own := interfaces[2].(map[string]any)
	own["mac"] = "02:00:00:00:00:77"
	n.ok(t, "CHECK", p, n.conf.with("prevResult", result))
	own["mtu"] = 1400
	n.ok(t, "CHECK", p, n.conf.with("prevResult", result))
	own["mtu"] = 1300
	n.refused(t, 104, "CHECK", p, n.conf.with("prevResult", result), "mtu 1400 -> 1500")
}
