package plugin_test

import (
	"testing"

	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/stretchr/testify/require"
)

// routed is the configuration of the node's network with point-to-point links.
func (n *node) routed() config {
	ipam := n.conf["ipam"].(config).with("routes", []any{config{"dst": "0.0.0.0/0"}, config{"dst": "::/0"}})
	return n.conf.with("mode", "ptp").with("isDefaultGateway", nil).with("hairpinMode", nil).with("ipam", ipam)
}

// addrs are the IPv4 and the IPv6 address of a result.
func addrs(t *testing.T, r *types100.Result) (v4, v6 string) {
	t.Helper()
	require.Len(t, r.IPs, 2)
	return r.IPs[0].Address.IP.String(), r.IPs[1].Address.IP.String()
}

// TestTraffic has pods of a bridge, and of point-to-point links, reach each other, the node, the world, and host ports.
func TestTraffic(t *testing.T) {
	t.Parallel()
	for name, conf := range map[string]func(*node) config{"bridge": func(n *node) config { return n.conf }, "ptp": (*node).routed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			world := n.outside(t)
			empty := n.snapshot(t)
			a, b := n.pod(t), n.pod(t)
			c := conf(n)
			ra := n.add(t, a, c)
			published := c.with("runtimeConfig", ports(8080, 80, "tcp"))
			rb := n.add(t, b, published)
			n.ok(t, "CHECK", a, c)
			n.ok(t, "CHECK", b, published)
			a4, a6 := addrs(t, ra)
			b4, b6 := addrs(t, rb)
			for _, x := range []struct{ a, b, node, outside, loopback string }{{a4, b4, node4, outside4, "127.0.0.1"}, {a6, b6, node6, outside6, "::1"}} {
				serve(t, b.ns, on(x.b, 80))
				serve(t, world, on(x.outside, 80))
				require.Equal(t, x.a, ask(t, a.ns, on(x.b, 80)), "pod to pod")
				require.Equal(t, x.node, ask(t, a.ns, on(x.outside, 80)), "a pod's traffic leaves under the node's address")
				require.NotEmpty(t, ask(t, n.ns, on(x.b, 80)), "node to pod")
				require.Equal(t, x.outside, ask(t, world, on(x.node, 8080)), "host port from outside, whose address the pod sees")
				require.NotEmpty(t, ask(t, n.ns, on(x.node, 8080)), "host port from the node")
				require.NotEmpty(t, ask(t, n.ns, on(x.loopback, 8080)), "host port from localhost")
				require.NotEmpty(t, ask(t, a.ns, on(x.node, 8080)), "host port from another pod")
				require.NotEmpty(t, ask(t, b.ns, on(x.node, 8080)), "host port from the pod itself")
			}
			n.ok(t, "DEL", a, c)
			n.ok(t, "DEL", b, published)
			n.ok(t, "GC", nil, c.with("cni.dev/valid-attachments", []any{})) // the table, too, stays for the next pod
			if name == "bridge" {
				in(t, n.ns, "ip", "link", "del", "cni0") // it stays for the next pod
			}
			require.Equal(t, empty, withoutLeases(n.snapshot(t)))
		})
	}
}
