package main

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/examples/internal/conditions"
	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
	"github.com/podplumb/podplumb/vxlan"
)

// node is a machine: its addresses on the wire, the ranges of its pods and the pods themselves, in both families.
type node struct {
	name    string
	addrs   []netip.Prefix
	ranges  []netip.Prefix
	gateway []netip.Prefix // of the pods: the bridge's addresses
	pods    []*pod

	ns *netns.NS
}

type pod struct {
	name  string
	addrs []netip.Prefix

	ns     *netns.NS
	server *container.Process
}

// nodes are those of the picture of the network model.
func nodes() []*node {
	return []*node{
		{
			name:    "node-a",
			addrs:   prefixes("10.0.0.1/24", "fd00:10::1/64"),
			ranges:  prefixes("10.244.1.0/24", "fd00:10:244:1::/64"),
			gateway: prefixes("10.244.1.1/24", "fd00:10:244:1::1/64"),
			pods: []*pod{
				{name: "pod-1", addrs: prefixes("10.244.1.5/24", "fd00:10:244:1::5/64")},
				{name: "pod-2", addrs: prefixes("10.244.1.6/24", "fd00:10:244:1::6/64")},
			},
		},
		{
			name:    "node-b",
			addrs:   prefixes("10.0.0.2/24", "fd00:10::2/64"),
			ranges:  prefixes("10.244.2.0/24", "fd00:10:244:2::/64"),
			gateway: prefixes("10.244.2.1/24", "fd00:10:244:2::1/64"),
			pods: []*pod{
				{name: "pod-3", addrs: prefixes("10.244.2.3/24", "fd00:10:244:2::3/64")},
				{name: "pod-4", addrs: prefixes("10.244.2.4/24", "fd00:10:244:2::4/64")},
			},
		},
	}
}

func prefixes(texts ...string) []netip.Prefix {
	list := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParsePrefix(text)
	}
	return list
}

// podMTU is what fits through the tunnel in one piece when the wire takes 1500 bytes.
const podMTU = 1500 - vxlan.Overhead4

// network is the whole example.
type network struct {
	run *run.Run
	out *report.Printer

	nodes []*node
	wire  *netns.NS
}

func (n *network) makeNamespaces(context.Context) (string, error) {
	var err error
	if n.wire, err = n.run.NetNS("wire"); err != nil {
		return "", err
	}
	n.nodes = nodes()
	for _, node := range n.nodes {
		if node.ns, err = n.run.NetNS(node.name); err != nil {
			return "", err
		}
		// A node is a router. Packets of one connection may arrive over the overlay and leave over the wire, which strict
		// reverse path filtering would not let pass.
		for key, value := range map[string]string{
			"net.ipv4.ip_forward":             "1",
			"net.ipv6.conf.all.forwarding":    "1",
			"net.ipv4.conf.all.rp_filter":     "0",
			"net.ipv4.conf.default.rp_filter": "0",
		} {
			if err := node.ns.SetSysctl(key, value); err != nil {
				return "", err
			}
		}
		for _, pod := range node.pods {
			if pod.ns, err = n.run.NetNS(pod.name); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("enter one with: ip netns exec %spod-1 ip address", n.run.Prefix()), nil
}

// sync brings the links of a namespace to the wanted state.
func (n *network) sync(ctx context.Context, where string, config veth.Config, want veth.State) error {
	links, err := veth.New(config)
	if err != nil {
		return err
	}
	defer links.Close()
	plan, err := links.Sync(ctx, want)
	if err != nil {
		return err
	}
	n.out.Detail(1, where, plan.String())
	return nil
}

// layUnderlay connects eth0 of every node to a bridge that stands for the switch between them. It needs an owner of its own
// because the nodes' clients look after other links in the same namespaces.
func (n *network) layUnderlay(ctx context.Context) (string, error) {
	want := veth.State{Bridges: []veth.Bridge{{Name: "switch"}}}
	for _, node := range n.nodes {
		want.Pairs = append(want.Pairs, veth.Pair{
			Host: veth.Host{Name: node.name, Bridge: "switch"},
			Pod:  veth.Pod{NetNS: node.ns.Path(), Name: "eth0", Addresses: node.addrs},
		})
	}
	if err := n.sync(ctx, "wire", veth.Config{NetNS: n.wire, Owner: "podplumb-wire"}, want); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s to %s", n.nodes[0].addrs[0], n.nodes[1].addrs[0]), nil
}

// attachPods gives every node a bridge, which is the gateway of its pods, and every pod an eth0 on it.
func (n *network) attachPods(ctx context.Context) (string, error) {
	count := 0
	for _, node := range n.nodes {
		want := veth.State{Bridges: []veth.Bridge{{Name: "cni0", MTU: podMTU, Addresses: node.gateway}}}
		for _, pod := range node.pods {
			want.Pairs = append(want.Pairs, veth.Pair{
				Host: veth.Host{Name: "veth-" + pod.name, Bridge: "cni0"},
				Pod: veth.Pod{
					NetNS: pod.ns.Path(), Name: "eth0", MTU: podMTU, Addresses: pod.addrs,
					Routes: []veth.Route{veth.DefaultVia(node.gateway[0].Addr()), veth.DefaultVia(node.gateway[1].Addr())},
				},
			})
			count++
		}
		if err := n.sync(ctx, node.name, veth.Config{NetNS: node.ns}, want); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d pods on %d bridges", count, len(n.nodes)), nil
}

// joinNodes makes every other node a peer: packets for its pods' ranges go through the tunnel to its address on the wire.
func (n *network) joinNodes(ctx context.Context) (string, error) {
	const vni = 1
	for _, node := range n.nodes {
		device := vxlan.Device{Name: "vxlan0", VNI: vni, Source: node.addrs[0].Addr(), Underlay: "eth0"}
		for _, tunnel := range tunnelAddrs(node) {
			device.Addrs = append(device.Addrs, netip.PrefixFrom(tunnel, tunnel.BitLen()))
		}
		for _, other := range n.nodes {
			if other != node {
				device.Peers = append(device.Peers, vxlan.Peer{VTEP: other.addrs[0].Addr(), Tunnel: tunnelAddrs(other), Subnets: other.ranges})
			}
		}
		client, err := vxlan.New(vxlan.Config{NetNS: node.ns})
		if err != nil {
			return "", err
		}
		plan, err := client.Sync(ctx, vxlan.State{Devices: []vxlan.Device{device}})
		client.Close()
		if err != nil {
			return "", err
		}
		n.out.Detail(1, node.name, plan.String())
	}
	return fmt.Sprintf("VNI %d between %s and %s", vni, n.nodes[0].addrs[0].Addr(), n.nodes[1].addrs[0].Addr()), nil
}

// tunnelAddrs are the addresses of a node's VXLAN device: the first of each pod range, which no pod has.
func tunnelAddrs(node *node) []netip.Addr {
	return []netip.Addr{node.ranges[0].Addr(), node.ranges[1].Addr()}
}

func (n *network) startServers(ctx context.Context) (string, error) {
	for _, node := range n.nodes {
		for _, pod := range node.pods {
			var err error
			config := container.Config{NetNS: pod.ns, Run: n.run.Name, Pod: pod.name}
			if pod.server, err = container.Serve(ctx, config, "server", "tcp/8080"); err != nil {
				return "", err
			}
		}
	}
	return "listening on 8080", nil
}

func (n *network) podHosts() []conditions.Host {
	var hosts []conditions.Host
	for _, node := range n.nodes {
		for _, pod := range node.pods {
			hosts = append(hosts, conditions.Host{
				Name: pod.name, Dial: pod.ns.DialContext, Port: 8080,
				Addrs: []netip.Addr{pod.addrs[0].Addr(), pod.addrs[1].Addr()},
			})
		}
	}
	return hosts
}

func (n *network) nodeHosts() []conditions.Host {
	var hosts []conditions.Host
	for _, node := range n.nodes {
		hosts = append(hosts, conditions.Host{Name: node.name, Dial: node.ns.DialContext})
	}
	return hosts
}

// close closes handles; the processes and namespaces behind them are removed by the run.
func (n *network) close() {
	for _, node := range n.nodes {
		for _, pod := range node.pods {
			if pod.server != nil {
				pod.server.Release()
			}
			if pod.ns != nil {
				pod.ns.Close()
			}
		}
		if node.ns != nil {
			node.ns.Close()
		}
	}
	if n.wire != nil {
		n.wire.Close()
	}
}
