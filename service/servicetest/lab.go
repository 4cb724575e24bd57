package servicetest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
)

// The pods by name: two and a client on the node under test, two on the other node.
const (
	here1  = "here1"
	here2  = "here2"
	client = "client"
	far1   = "far1"
	far2   = "far2"
)

const (
	nodeName = "node-a"
	farName  = "node-b"
	podPort  = 8080 // every pod serves TCP and UDP on this port
	altPort  = 9090 // and on this one
)

var (
	serviceRanges  = []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd96::/112")}
	externalRanges = []netip.Prefix{netip.MustParsePrefix("198.18.0.0/16"), netip.MustParsePrefix("2001:db8:113::/112")}
	podRanges      = []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/48")}
)

// lab is the cluster of namespaces, seen by one row in one family.
type lab struct {
	node    nstest.Node
	far     nstest.Node
	outside nstest.End // a host that is neither node nor pod
	pods    map[string]nstest.End
	proxy   *service.Proxy

	index  int // of the row: it has addresses of its own, so that no row meets another's connections
	family service.IPFamily
}

func newLab(t *testing.T, c Config) *lab {
	t.Helper()
	nstest.Require(t, nstest.Conntrack)
	nstest.Require(t, nstest.BrNetfilter)
	cluster := nstest.NewCluster(t, 2, 3)
	cluster.RouteDirectly(t)
	l := &lab{node: cluster.Nodes[0], far: cluster.Nodes[1], pods: map[string]nstest.End{}, family: service.IPv4}
	l.outside = nstest.End{NS: cluster.Underlay, Link: "underlay0", V4: netip.MustParsePrefix("192.168.50.1/24"), V6: netip.MustParsePrefix("fd50::1/64")}
	for _, p := range serviceRanges {
		nstest.Route(t, l.outside.NS, p, l.node.Addr(p.Addr().Is6()))
	}
	for _, p := range externalRanges {
		nstest.Route(t, l.outside.NS, p, l.node.Addr(p.Addr().Is6()))
	}
	for i, name := range []string{here1, here2, client} {
		l.pods[name] = cluster.Nodes[0].Pods[i]
	}
	for i, name := range []string{far1, far2} {
		l.pods[name] = cluster.Nodes[1].Pods[i]
	}
	for _, n := range cluster.Nodes {
		for i := range n.Pods {
			nstest.Hairpin(t, n.NS, fmt.Sprintf("pod%d", i))
		}
		for _, key := range []string{"net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"} {
			if err := n.NS.SetSysctl(key, "0"); err != nil { // refusals are counted on here, and come in bursts
				t.Fatal(err)
			}
		}
		// Pods of one bridge answer each other directly: the node has to see those packets to put the service's address back.
		for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
			if err := n.NS.SetSysctl(key, "1"); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, pod := range l.pods {
		for _, port := range []int{podPort, altPort} {
			nstest.ServeTCP(t, pod.NS, fmt.Sprintf(":%d", port), name)
			nstest.ServeUDP(t, pod.NS, fmt.Sprintf(":%d", port), name)
		}
	}
	var err error
	l.proxy, err = service.New(service.Config{Node: l.self(), Backend: c.New(t, l.node.NS)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// self is the node under test as a Kubernetes object.
func (l *lab) self() service.Node {
	n := service.Node{Meta: service.Meta{Name: nodeName}}
	for _, a := range l.node.Addrs() {
		n.Status.Addresses = append(n.Status.Addresses, service.NodeAddress{Type: "InternalIP", Address: a.String()})
	}
	return n
}

// in returns the lab as a row sees it in one family.
func (l *lab) in(row int, fam service.IPFamily) *lab {
	in := *l
	in.index, in.family = row, fam
	return &in
}

func (l *lab) v6() bool { return l.family == service.IPv6 }

func (l *lab) of(ranges []netip.Prefix) netip.Prefix {
	if l.v6() {
		return ranges[1]
	}
	return ranges[0]
}

// nth returns an address of a range that no other row uses.
func (l *lab) nth(p netip.Prefix, n int) netip.Addr {
	raw := p.Addr().AsSlice()
	raw[len(raw)-2], raw[len(raw)-1] = byte(1+l.index), byte(10+n)
	a, _ := netip.AddrFromSlice(raw)
	return a
}

// clusterIP returns the cluster IP of the row's n-th Service.
func (l *lab) clusterIP(n int) netip.Addr { return l.nth(l.of(serviceRanges), n) }

// external returns the row's n-th address that only the host outside routes to the node.
func (l *lab) external(n int) netip.Addr { return l.nth(l.of(externalRanges), n) }

func (l *lab) vip(n int, port uint16) netip.AddrPort { return netip.AddrPortFrom(l.clusterIP(n), port) }

func (l *lab) addr(pod string) netip.Addr { return l.pods[pod].Addr(l.v6()) }

// name of the row's n-th Service.
func (l *lab) name(n int) service.Name {
	return service.Name{Namespace: "default", Name: fmt.Sprintf("web-%d-%d", l.index, n)}
}

// service returns the row's n-th Service: TCP and UDP 80, in the row's family.
func (l *lab) service(n int) service.Service {
	name := l.name(n)
	return service.Service{
		Meta: service.Meta{Namespace: name.Namespace, Name: name.Name},
		Spec: service.Spec{
			ClusterIP: l.clusterIP(n).String(),
			Ports: []service.Port{
				{Name: "tcp", Port: 80, TargetPort: service.PortRef{Number: podPort}},
				{Name: "udp", Port: 80, Protocol: service.UDP, TargetPort: service.PortRef{Number: podPort}},
			},
		},
	}
}

// slice returns the endpoints of the row's n-th Service.
func (l *lab) slice(n int, pods ...string) service.EndpointSlice {
	of := l.name(n)
	port, tcp, udp, protocol := int32(podPort), "tcp", "udp", service.UDP
	s := service.EndpointSlice{
		Meta:        service.Meta{Namespace: of.Namespace, Name: of.Name + "-1", Labels: map[string]string{service.LabelServiceName: of.Name}},
		AddressType: service.AddressType(l.family),
		Ports:       []service.SlicePort{{Name: &tcp, Port: &port}, {Name: &udp, Port: &port, Protocol: &protocol}},
	}
	for _, pod := range pods {
		node := l.nodeOf(pod)
		s.Endpoints = append(s.Endpoints, service.SliceEndpoint{Addresses: []string{l.addr(pod).String()}, NodeName: &node})
	}
	return s
}

func (l *lab) nodeOf(pod string) string {
	if pod == far1 || pod == far2 {
		return farName
	}
	return nodeName
}

// world is a State of Services and slices with the settings of the lab.
func (l *lab) world(services []service.Service, slices ...service.EndpointSlice) service.State {
	return service.State{Services: services, EndpointSlices: slices, PodRanges: podRanges, ServiceRanges: serviceRanges}
}

// one is a State with one Service and these endpoints.
func (l *lab) one(pods ...string) service.State {
	return l.world([]service.Service{l.service(0)}, l.slice(0, pods...))
}

// place is somewhere that connections are opened from.
type place struct {
	name string
	ns   *netns.NS
	own  bool // it is the node itself
}

func (l *lab) fromPod() place     { return place{name: "a pod", ns: l.pods[client].NS} }
func (l *lab) fromNode() place    { return place{name: "the node", ns: l.node.NS, own: true} }
func (l *lab) fromOutside() place { return place{name: "outside", ns: l.outside.NS} }

func (l *lab) everywhere() []place { return []place{l.fromPod(), l.fromNode(), l.fromOutside()} }

// isNode reports whether an address is one of the node's own.
func (l *lab) isNode(a netip.Addr) bool {
	return a == l.node.Addr(l.v6()) || a == gateway(l.node.PodV4) || a == gateway(l.node.PodV6)
}

// gateway is the first address of a pod network: the bridge's.
func gateway(p netip.Prefix) netip.Addr { return p.Masked().Addr().Next() }
