package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/policy"
	"github.com/podplumb/podplumb/veth"
)

// The world outside has these addresses, which are reserved for documentation (RFC 5737, RFC 3849).
var outsideAddrs = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}

// network is a world that is being made real.
type network struct {
	*world
	run *run.Run
	out *report.Printer

	wire  *netns.NS // joins the nodes, and is the world outside
	nodes []*node
	pods  []*pod
}

type node struct {
	layout.Node
	ns     *netns.NS
	pods   []*pod
	client *policy.Client
}

type pod struct {
	layout.Pod
	ns        *netns.NS
	processes []*container.Process
	ports     []port // that somebody listens on
}

type port struct {
	proto  policy.Protocol
	number uint16
}

func (p port) String() string { return fmt.Sprintf("%s/%d", p.proto, p.number) }

func (n *network) makeNamespaces(context.Context) (string, error) {
	var err error
	if n.wire, err = n.run.NetNS("wire"); err != nil {
		return "", err
	}
	if err := forward(n.wire); err != nil {
		return "", err
	}
	byName := map[string]*node{}
	for _, planned := range n.layout.Nodes {
		made := &node{Node: planned}
		n.nodes = append(n.nodes, made)
		byName[made.Name()] = made
		if made.ns, err = n.run.NetNS("node." + made.Name()); err != nil {
			return "", err
		}
		if err := forward(made.ns); err != nil {
			return "", err
		}
	}
	for _, planned := range n.layout.Pods {
		made := &pod{Pod: planned}
		n.pods = append(n.pods, made)
		byName[made.Node].pods = append(byName[made.Node].pods, made)
		if made.ns, err = n.run.NetNS("pod." + made.Object.Namespace + "." + made.Object.Name); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d, named %s*", 1+len(n.nodes)+len(n.pods), n.run.Prefix()), nil
}

// forward makes a namespace a router that does not tell of shorter ways.
func forward(ns *netns.NS) error {
	for key, value := range map[string]string{
		"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
		"net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.default.send_redirects": "0",
	} {
		if err := ns.SetSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// layWire connects the nodes to a bridge, which routes between them and to the outside: every node knows the ranges of the others.
func (n *network) layWire(ctx context.Context) (string, error) {
	bridge := veth.Bridge{Name: "switch"}
	for _, network := range n.layout.Underlay {
		bridge.Addresses = append(bridge.Addresses, netip.PrefixFrom(network.Router, network.Range.Bits()))
	}
	for _, a := range outsideAddrs {
		bridge.Addresses = append(bridge.Addresses, netip.PrefixFrom(a, a.BitLen()))
	}
	var pairs []veth.Pair
	for i, at := range n.nodes {
		eth0 := veth.Pod{NetNS: at.ns.Path(), Name: "eth0"}
		for family, network := range n.layout.Underlay {
			eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(at.Addrs[family], network.Range.Bits()))
			eth0.Routes = append(eth0.Routes, veth.DefaultVia(network.Router))
			bridge.Routes = append(bridge.Routes, veth.Route{To: at.PodNets[family].Range, Via: at.Addrs[family], Source: outsideAddrs[family]})
			for _, other := range n.nodes {
				if other != at {
					eth0.Routes = append(eth0.Routes, veth.Route{To: other.PodNets[family].Range, Via: other.Addrs[family]})
				}
			}
		}
		pairs = append(pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("node%d", i), Bridge: "switch"}, Pod: eth0})
	}
	want := veth.State{Bridges: []veth.Bridge{bridge}, Pairs: pairs}
	if err := n.sync(ctx, "the wire", veth.Config{NetNS: n.wire, Owner: "podplumb-wire"}, want); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s", n.layout.Underlay[0].Range, n.layout.Underlay[1].Range), nil
}

func (n *network) sync(ctx context.Context, where string, config veth.Config, want veth.State) error {
	client, err := veth.New(config)
	if err != nil {
		return err
	}
	defer client.Close()
	plan, err := client.Sync(ctx, want)
	if err != nil {
		return err
	}
	n.out.Detail(1, where, plan.String())
	return nil
}

// attachPods gives every node a bridge and every pod an eth0 on it. A pod's address stands alone, with a default route through the
// gateway, so that the packets of two pods of one node pass the node's IP layer, where the policies are.
func (n *network) attachPods(ctx context.Context) (string, error) {
	for _, at := range n.nodes {
		bridge := veth.Bridge{Name: "cni0"}
		var routes []veth.Route
		for _, network := range at.PodNets {
			bridge.Addresses = append(bridge.Addresses, netip.PrefixFrom(network.Router, network.Range.Bits()))
			route := veth.DefaultVia(network.Router)
			route.OnLink = true
			routes = append(routes, route)
		}
		want := veth.State{Bridges: []veth.Bridge{bridge}}
		for i, p := range at.pods {
			eth0 := veth.Pod{NetNS: p.ns.Path(), Name: "eth0", Routes: routes, Sysctls: map[string]string{
				"net.ipv4.conf.IFNAME.accept_redirects": "0", "net.ipv6.conf.IFNAME.accept_redirects": "0",
			}}
			for _, a := range p.Addrs {
				eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(a, a.BitLen()))
			}
			want.Pairs = append(want.Pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("veth%d", i), Bridge: "cni0"}, Pod: eth0})
		}
		if err := n.sync(ctx, at.Name(), veth.Config{NetNS: at.ns}, want); err != nil {
			return "", err
		}
	}
	return fmt.Sprintf("%d pods on %d bridges", len(n.pods), len(n.nodes)), nil
}

// startServers lets every container listen on its TCP and UDP ports. Nothing listens on SCTP here.
func (n *network) startServers(ctx context.Context) (string, error) {
	count := 0
	for _, p := range n.pods {
		config := container.Config{NetNS: p.ns, Run: n.run.Name, Pod: p.Name()}
		for _, c := range p.Object.Spec.Containers {
			var listen []string
			for _, declared := range c.Ports {
				if declared.Protocol == corev1.ProtocolSCTP {
					continue
				}
				at := port{policy.Protocol(declared.Protocol), uint16(declared.ContainerPort)}
				p.ports = append(p.ports, at)
				listen = append(listen, strings.ToLower(at.String()))
			}
			if len(listen) == 0 {
				continue
			}
			process, err := container.Serve(ctx, config, c.Name, listen...)
			if err != nil {
				return "", err
			}
			p.processes = append(p.processes, process)
			count += len(listen)
		}
	}
	return fmt.Sprintf("listening on %d ports", count), nil
}

// close closes handles; the processes and namespaces behind them are removed by the run.
func (n *network) close() {
	for _, p := range n.pods {
		for _, process := range p.processes {
			process.Release()
		}
		if p.ns != nil {
			p.ns.Close()
		}
	}
	for _, at := range n.nodes {
		if at.client != nil {
			at.client.Close()
		}
		if at.ns != nil {
			at.ns.Close()
		}
	}
	if n.wire != nil {
		n.wire.Close()
	}
}
