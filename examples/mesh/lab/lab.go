package lab

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// Pod is a namespace with an eth0.
type Pod struct {
	Name  string
	Node  string
	NS    *netns.NS
	Addrs [2]netip.Addr // IPv4, IPv6
}

// Node is a router with its pods behind it.
type Node struct {
	Name  string
	NS    *netns.NS
	Addrs [2]netip.Addr // on the wire
	Gates [2]netip.Addr // of its pods, from which it reaches them
}

// Net is the whole network.
type Net struct {
	Wire  *netns.NS
	Nodes []*Node
	Pods  []*Pod
}

// Ranges are the networks of the cluster: pods and Services.
var Ranges = []netip.Prefix{
	netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:10:244::/48"),
	netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd00:10:96::/112"),
}

// Between two nodes everything passes Uplink, which is the first node's port of
// the switch in the namespace Wire.
const (
	Switch = "switch"
	Uplink = "port0"
)

// Bridge is the bridge of each node.
const Bridge = "cni0"

// Build makes namespaces with open, which gives them names, and joins them.
// Each list of pods is a node's: node-a, node-b and so on. The namespaces are
// the caller's to remove, also after an error.
func Build(ctx context.Context, open func(name string) (*netns.NS, error), pods ...[]string) (*Net, error) {
	n := &Net{}
	var err error
	if n.Wire, err = open("wire"); err != nil {
		return nil, err
	}
	for i, names := range pods {
		node := &Node{Name: "node-" + string(rune('a'+i)), Addrs: pair("10.0.0.%d", "fd00:10::%d", i+1), Gates: pair("10.244.%d.1", "fd00:10:244:%d::1", i+1)}
		if node.NS, err = open("node." + node.Name); err != nil {
			return nil, err
		}
		for key, value := range map[string]string{"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1"} {
			if err := node.NS.SetSysctl(key, value); err != nil {
				return nil, err
			}
		}
		n.Nodes = append(n.Nodes, node)
		for j, name := range names {
			p := &Pod{Name: name, Node: node.Name, Addrs: pair(fmt.Sprintf("10.244.%d.%%d", i+1), fmt.Sprintf("fd00:10:244:%d::%%x", i+1), 10+j)}
			if p.NS, err = open("pod." + name); err != nil {
				return nil, err
			}
			n.Pods = append(n.Pods, p)
		}
	}
	return n, n.join(ctx)
}

func pair(v4, v6 string, n int) [2]netip.Addr {
	return [2]netip.Addr{netip.MustParseAddr(fmt.Sprintf(v4, n)), netip.MustParseAddr(fmt.Sprintf(v6, n))}
}

var bits = [2]int{24, 64}

func (n *Net) join(ctx context.Context) error {
	wire := veth.State{Bridges: []veth.Bridge{{Name: Switch}}}
	for i, node := range n.Nodes {
		eth0 := veth.Pod{NetNS: node.NS.Path(), Name: "eth0"}
		for f, a := range node.Addrs {
			eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(a, bits[f]))
			for _, other := range n.Nodes {
				if other != node {
					eth0.Routes = append(eth0.Routes, veth.Route{To: netip.PrefixFrom(other.Gates[f], bits[f]).Masked(), Via: other.Addrs[f]})
				}
			}
		}
		wire.Pairs = append(wire.Pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("port%d", i), Bridge: Switch}, Pod: eth0})
	}
	if err := apply(ctx, veth.Config{NetNS: n.Wire, Owner: "podplumb-wire"}, wire); err != nil {
		return err
	}
	for _, node := range n.Nodes {
		bridge := veth.Bridge{Name: Bridge}
		var routes []veth.Route
		for f, gate := range node.Gates {
			bridge.Addresses = append(bridge.Addresses, netip.PrefixFrom(gate, bits[f]))
			route := veth.DefaultVia(gate)
			route.OnLink = true
			routes = append(routes, route)
		}
		state := veth.State{Bridges: []veth.Bridge{bridge}}
		for _, p := range n.Pods {
			if p.Node != node.Name {
				continue
			}
			eth0 := veth.Pod{NetNS: p.NS.Path(), Name: "eth0", Routes: routes}
			for _, a := range p.Addrs {
				eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(a, a.BitLen()))
			}
			host := veth.Host{Name: fmt.Sprintf("veth%d", len(state.Pairs)), Bridge: Bridge, Port: veth.Port{Hairpin: true}}
			state.Pairs = append(state.Pairs, veth.Pair{Host: host, Pod: eth0})
		}
		if err := apply(ctx, veth.Config{NetNS: node.NS}, state); err != nil {
			return err
		}
	}
	return nil
}

func apply(ctx context.Context, c veth.Config, want veth.State) error {
	client, err := veth.New(c)
	if err != nil {
		return err
	}
	defer client.Close()
	_, err = client.Sync(ctx, want)
	return err
}

// Pod returns the pod of that name.
func (n *Net) Pod(name string) *Pod {
	for _, p := range n.Pods {
		if p.Name == name {
			return p
		}
	}
	return nil
}
