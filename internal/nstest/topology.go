package nstest

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/netns"
)

// End is one end of a link in a namespace: a pod's, a node's or a client's only one.
type End struct {
	NS   *netns.NS
	Link string       // the name of the link in NS
	V4   netip.Prefix // its IPv4 address and network
	V6   netip.Prefix // its IPv6 address and network
}

// Addr returns the IPv6 or the IPv4 address.
func (e End) Addr(v6 bool) netip.Addr {
	if v6 {
		return e.V6.Addr()
	}
	return e.V4.Addr()
}

// Addrs returns both addresses, IPv4 first.
func (e End) Addrs() []netip.Addr { return []netip.Addr{e.V4.Addr(), e.V6.Addr()} }

// Pair returns two fresh namespaces joined by a veth pair called eth0 on both sides, with
// 192.0.2.1/24 and 2001:db8::1/64 in a, .2 and ::2 in b.
func Pair(t testing.TB) (a, b End) {
	t.Helper()
	Require(t, Veth)
	a = End{New(t), "eth0", netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("2001:db8::1/64")}
	b = End{New(t), "eth0", netip.MustParsePrefix("192.0.2.2/24"), netip.MustParsePrefix("2001:db8::2/64")}
	Join(t, a.NS, a.Link, b.NS, b.Link)
	Address(t, a)
	Address(t, b)
	return a, b
}

// Join connects two namespaces by a veth pair, brings both ends up and waits for the
// carrier.
func Join(t testing.TB, a *netns.NS, linkA string, b *netns.NS, linkB string) {
	t.Helper()
	must(t, a, func() error { return addVeth(linkA, linkB, b.Fd()) })
	Up(t, a, linkA)
	Up(t, b, linkB)
	must(t, a, func() error { return settle(linkA) })
	must(t, b, func() error { return settle(linkB) })
}

// Address gives the end its addresses; IPv6 ones can be used at once.
func Address(t testing.TB, e End) {
	t.Helper()
	must(t, e.NS, func() error {
		for _, p := range []netip.Prefix{e.V4, e.V6} {
			if !p.IsValid() {
				continue
			}
			if err := addAddress(e.Link, p); err != nil {
				return err
			}
		}
		return nil
	})
}

// Up brings a link up.
func Up(t testing.TB, ns *netns.NS, link string) {
	t.Helper()
	must(t, ns, func() error { return linkUp(link, "") })
}

// AddBridge makes a bridge, brings it up and puts links on it.
func AddBridge(t testing.TB, ns *netns.NS, name string, links ...string) {
	t.Helper()
	must(t, ns, func() error {
		if err := addLink(name, "bridge", nil, nil); err != nil {
			return err
		}
		if err := linkUp(name, ""); err != nil {
			return err
		}
		for _, link := range links {
			if err := linkUp(link, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Route routes dst over via, of the same family.
func Route(t testing.TB, ns *netns.NS, dst netip.Prefix, via netip.Addr) {
	t.Helper()
	must(t, ns, func() error { return addRoute(dst, via) })
}

// Void makes from send what goes to dst over the link to the gateway, and the gateway
// drop it in silence: the way to a host that is down.
func Void(t testing.TB, from, gateway End, dst netip.Prefix) {
	t.Helper()
	Route(t, from.NS, dst, gateway.Addr(dst.Addr().Is6()))
	must(t, gateway.NS, func() error { return addRoute(dst, netip.Addr{}) })
}

// DefaultRoutes routes everything over the given gateways.
func DefaultRoutes(t testing.TB, ns *netns.NS, via ...netip.Addr) {
	t.Helper()
	for _, gw := range via {
		everything := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gw.Is6() {
			everything = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		Route(t, ns, everything, gw)
	}
}

// Forward turns forwarding on, for both families.
func Forward(t testing.TB, ns *netns.NS) {
	t.Helper()
	for _, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if err := ns.SetSysctl(key, "1"); err != nil {
			t.Fatal(err)
		}
	}
}

// Node is a machine with pods.
type Node struct {
	End                 // the uplink, eth0
	Bridge string       // cni0, with the first address of both pod networks
	PodV4  netip.Prefix // 10.244.N.0/24
	PodV6  netip.Prefix // fd44:0:0:N::/64
	Pods   []End        // .10, .11, ... on the bridge, with default routes over it
}

// Cluster is a few nodes whose uplinks are joined by a bridge, the underlay.
type Cluster struct {
	Underlay *netns.NS // holds the bridge, underlay0, with the address .1
	Nodes    []Node
}

// NewCluster returns nodes at 192.168.50.10 and fd50::10 onwards (/24, /64), each with pods
// behind a bridge, forwarding on. Nodes reach each other and their own pods; how
// the pods of different nodes reach each other is for the test to arrange, see
// [Cluster.RouteDirectly].
func NewCluster(t testing.TB, nodes, pods int) *Cluster {
	t.Helper()
	Require(t, Bridge)
	c := &Cluster{Underlay: New(t)}
	AddBridge(t, c.Underlay, "underlay0")
	gateway := End{c.Underlay, "underlay0", netip.MustParsePrefix("192.168.50.1/24"), netip.MustParsePrefix("fd50::1/64")}
	Address(t, gateway)
	for n := range nodes {
		node := newNode(t, n, pods)
		port := fmt.Sprintf("node%d", n)
		Join(t, c.Underlay, port, node.NS, node.Link)
		plug(t, c.Underlay, port, "underlay0")
		Address(t, node.End)
		DefaultRoutes(t, node.NS, gateway.V4.Addr(), gateway.V6.Addr())
		c.Nodes = append(c.Nodes, node)
	}
	return c
}

// NewNode returns a node with pods and without uplink.
func NewNode(t testing.TB, pods int) Node {
	t.Helper()
	Require(t, Bridge)
	node := newNode(t, 0, pods)
	node.End = End{NS: node.NS}
	return node
}

func newNode(t testing.TB, n, pods int) Node {
	t.Helper()
	node := Node{
		End: End{
			NS: New(t), Link: "eth0",
			V4: prefix("192.168.50.%d/24", 10+n), V6: prefix("fd50::%d/64", 10+n),
		},
		Bridge: "cni0",
		PodV4:  prefix("10.244.%d.0/24", n),
		PodV6:  prefix("fd44:0:0:%d::/64", n),
	}
	AddBridge(t, node.NS, node.Bridge)
	gw := End{node.NS, node.Bridge, prefix("10.244.%d.1/24", n), prefix("fd44:0:0:%d::1/64", n)}
	Address(t, gw)
	Forward(t, node.NS)
	for p := range pods {
		pod := End{New(t), "eth0", prefix("10.244.%d.%d/24", n, 10+p), prefix("fd44:0:0:%d::%d/64", n, 10+p)}
		port := fmt.Sprintf("pod%d", p)
		Join(t, node.NS, port, pod.NS, pod.Link)
		plug(t, node.NS, port, node.Bridge)
		Address(t, pod)
		DefaultRoutes(t, pod.NS, gw.V4.Addr(), gw.V6.Addr())
		node.Pods = append(node.Pods, pod)
	}
	return node
}

// plug puts a link on a bridge and waits until both carry packets.
func plug(t testing.TB, ns *netns.NS, link, bridge string) {
	t.Helper()
	must(t, ns, func() error {
		return errors.Join(linkUp(link, bridge), settle(bridge))
	})
}

// RouteDirectly routes every node's pod networks over its uplink, in all the
// others and in the underlay.
func (c *Cluster) RouteDirectly(t testing.TB) {
	t.Helper()
	for i, to := range c.Nodes {
		Route(t, c.Underlay, to.PodV4, to.V4.Addr())
		Route(t, c.Underlay, to.PodV6, to.V6.Addr())
		for j, from := range c.Nodes {
			if i != j {
				Route(t, from.NS, to.PodV4, to.V4.Addr())
				Route(t, from.NS, to.PodV6, to.V6.Addr())
			}
		}
	}
}

func prefix(format string, args ...any) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf(format, args...))
}

// must runs fn inside ns and ends the test if it fails.
func must(t testing.TB, ns *netns.NS, fn func() error) {
	t.Helper()
	if err := ns.Do(fn); err != nil {
		t.Fatalf("namespace %s: %v", ns, err)
	}
}
