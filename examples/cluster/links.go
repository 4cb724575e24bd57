package main

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/veth"
	"github.com/podplumb/podplumb/vxlan"
)

// A host outside of the cluster has these addresses, and the router has those; both are reserved for documentation (RFC 5737,
// RFC 3849).
var (
	outsideAddrs   = []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")}
	outsideRouters = []netip.Addr{netip.MustParseAddr("192.0.2.254"), netip.MustParseAddr("2001:db8::fe")}
	outsideBits    = []int{24, 64}
)

const (
	underlayMTU = 1500
	podMTU      = underlayMTU - vxlan.Overhead4 // what fits through the tunnel in one piece
	vni         = 1
)

// sync brings the links of a namespace to the wanted state.
func (c *cluster) sync(ctx context.Context, where string, config veth.Config, want veth.State) error {
	client, err := veth.New(config)
	if err != nil {
		return err
	}
	defer client.Close()
	plan, err := client.Sync(ctx, want)
	if err != nil {
		return err
	}
	c.out.Detail(1, where, plan.String())
	return nil
}

// layUnderlay connects eth0 of every node to a bridge that stands for the switch between them. The bridge is also the
// router to the world outside, where there is one host; and it leads the addresses that the world knows Services by to
// nodes, as a load balancer or its network would. It has an owner of its own because the nodes' clients look after other
// links of theirs.
func (c *cluster) layUnderlay(ctx context.Context) (string, error) {
	bridge := veth.Bridge{Name: "switch", MTU: underlayMTU}
	var routes []veth.Route
	for _, network := range c.layout.Underlay {
		bridge.Addresses = append(bridge.Addresses, netip.PrefixFrom(network.Router, network.Range.Bits()))
		routes = append(routes, veth.DefaultVia(network.Router))
	}
	led := map[netip.Addr]bool{}
	for _, entry := range c.layout.Entries {
		if led[entry.Addr] || c.isNode(entry.Addr) {
			continue
		}
		led[entry.Addr] = true
		for _, n := range c.nodes {
			if n.Name() == entry.Node {
				bridge.Routes = append(bridge.Routes, veth.Route{To: netip.PrefixFrom(entry.Addr, entry.Addr.BitLen()), Via: n.Addrs[family(entry.Addr)]})
			}
		}
	}
	want := veth.State{Bridges: []veth.Bridge{bridge}, Pairs: []veth.Pair{c.worldOutside()}}
	for i, n := range c.nodes {
		eth0 := veth.Pod{NetNS: n.ns.Path(), Name: "eth0", MTU: underlayMTU, Routes: routes}
		for family, addr := range n.Addrs {
			eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(addr, c.layout.Underlay[family].Range.Bits()))
		}
		want.Pairs = append(want.Pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("node%d", i), Bridge: "switch"}, Pod: eth0})
	}
	if err := c.sync(ctx, "the wire", veth.Config{NetNS: c.wire, Owner: "podplumb-wire"}, want); err != nil {
		return "", err
	}
	var err error
	config := container.Config{NetNS: c.outside, Run: c.run.Name, Pod: "outside", Detach: c.detach}
	if c.server, err = container.Serve(ctx, config, "server", "tcp/80"); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s, %s", c.layout.Underlay[0].Range, c.layout.Underlay[1].Range), nil
}

// worldOutside joins a host to the router.
func (c *cluster) worldOutside() veth.Pair {
	pair := veth.Pair{Host: veth.Host{Name: "world"}, Pod: veth.Pod{NetNS: c.outside.Path(), Name: "eth0", MTU: underlayMTU}}
	for family, addr := range outsideAddrs {
		pair.Host.Addresses = append(pair.Host.Addresses, netip.PrefixFrom(outsideRouters[family], outsideBits[family]))
		pair.Pod.Addresses = append(pair.Pod.Addresses, netip.PrefixFrom(addr, outsideBits[family]))
		pair.Pod.Routes = append(pair.Pod.Routes, veth.DefaultVia(outsideRouters[family]))
	}
	return pair
}

func (c *cluster) isNode(addr netip.Addr) bool {
	for _, n := range c.nodes {
		if n.Addrs[family(addr)] == addr {
			return true
		}
	}
	return false
}

// family is the index of an address's family in lists that have one entry of each: IPv4, IPv6.
func family(addr netip.Addr) int {
	if addr.Is4() {
		return 0
	}
	return 1
}

// attachPods gives every node a bridge, which is the gateway of its pods, and every pod an eth0 on it.
//
// A pod's address stands alone (/32, /128) with a default route through the gateway. So two pods of one node also talk
// through the node's IP layer and never just across the bridge: the answer of a pod that was reached through a Service
// passes the translation on its way back, whether or not the kernel shows bridged packets to netfilter. Pods do not listen
// to redirects, by which the node would tell them the shorter way (in IPv6 it cannot be kept from that).
func (c *cluster) attachPods(ctx context.Context) (string, error) {
	err := c.eachNode(ctx, func(ctx context.Context, n *node) error {
		bridge := veth.Bridge{Name: "cni0", MTU: podMTU}
		var routes []veth.Route
		for _, network := range n.PodNets {
			bridge.Addresses = append(bridge.Addresses, netip.PrefixFrom(network.Router, network.Range.Bits()))
			route := veth.DefaultVia(network.Router)
			route.OnLink = true
			routes = append(routes, route)
		}
		want := veth.State{Bridges: []veth.Bridge{bridge}}
		for i, p := range n.pods {
			eth0 := veth.Pod{NetNS: p.ns.Path(), Name: "eth0", MTU: podMTU, Routes: routes, Sysctls: map[string]string{
				"net.ipv4.conf.IFNAME.accept_redirects": "0",
				"net.ipv6.conf.IFNAME.accept_redirects": "0",
			}}
			for _, addr := range p.Addrs {
				eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(addr, addr.BitLen()))
			}
			port := veth.Port{Hairpin: true} // a pod may reach itself through its Service
			want.Pairs = append(want.Pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("veth%d", i), Bridge: "cni0", Port: port}, Pod: eth0})
		}
		return c.sync(ctx, n.Name(), veth.Config{NetNS: n.ns}, want)
	})
	return fmt.Sprintf("%s, MTU %d", count(len(c.pods), "pod"), podMTU), err
}

// joinNodes makes every other node a peer: packets for its pods go through the tunnel to its address on the underlay.
func (c *cluster) joinNodes(ctx context.Context) (string, error) {
	tunnel := func(n *node) []netip.Addr { // the first address of each range, which no pod has
		return []netip.Addr{n.PodNets[0].Range.Addr(), n.PodNets[1].Range.Addr()}
	}
	err := c.eachNode(ctx, func(ctx context.Context, n *node) error {
		device := vxlan.Device{Name: "vxlan0", VNI: vni, Source: n.Addrs[0], Underlay: "eth0"}
		for _, addr := range tunnel(n) {
			device.Addrs = append(device.Addrs, netip.PrefixFrom(addr, addr.BitLen()))
		}
		for _, peer := range c.nodes {
			if peer != n {
				device.Peers = append(device.Peers, vxlan.Peer{
					VTEP:    peer.Addrs[0],
					Tunnel:  tunnel(peer),
					Subnets: []netip.Prefix{peer.PodNets[0].Range, peer.PodNets[1].Range},
				})
			}
		}
		client, err := vxlan.New(vxlan.Config{NetNS: n.ns})
		if err != nil {
			return err
		}
		defer client.Close()
		plan, err := client.Sync(ctx, vxlan.State{Devices: []vxlan.Device{device}})
		if err != nil {
			return err
		}
		c.out.Detail(1, n.Name(), plan.String())
		return nil
	})
	return fmt.Sprintf("VNI %d, %s each", vni, count(len(c.nodes)-1, "peer")), err
}

// startContainers starts the containers of all pods, several at a time.
func (c *cluster) startContainers(ctx context.Context) (string, error) {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, p := range c.pods {
		if len(p.processes) == 0 { // else a DNS server, which runs
			group.Go(func() error { return c.startPod(ctx, p) })
		}
	}
	if err := group.Wait(); err != nil {
		return "", err
	}
	processes, commands := 0, 0
	for _, p := range c.pods {
		processes += len(p.processes)
		commands += len(p.commands)
	}
	outcome := fmt.Sprintf("%d processes", processes)
	if processes == 1 {
		outcome = "1 process"
	}
	if commands > 0 {
		outcome += fmt.Sprintf(", %s", count(commands, "command"))
	}
	return outcome, nil
}
