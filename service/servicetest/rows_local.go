package servicetest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

// local puts a Service under externalTrafficPolicy Local.
func local(s service.Service) service.Service {
	s.Spec.ExternalTrafficPolicy = service.PolicyLocal
	return s
}

// sees requires that every server that answers sees a client as this address, or as the node for the zero one.
func (l *lab) sees(t *testing.T, from place, network string, to netip.AddrPort, as netip.Addr) {
	t.Helper()
	for range 12 { // every endpoint comes by
		a := nstest.Reaches(t, from.ns, network, to)
		if seen := a.Client.Addr(); as.IsValid() && seen != as || !as.IsValid() && !l.isNode(seen) {
			t.Fatalf("%s: %s saw %s as %s, want %s (none: the node)", network, a.Server, from.name, seen, as)
		}
	}
}

func localRows() []row {
	return []row{
		{
			name:  "externalTrafficPolicy Local: outside reaches local endpoints with its own address, near clients all",
			needs: ExternalLocal,
			state: func(l *lab) service.State {
				a, b, none := local(l.loadBalancer(0, l.external(0))), local(l.loadBalancer(1, l.external(1))), local(l.loadBalancer(2, l.external(2)))
				return l.world([]service.Service{a, b, none}, l.slice(0, here1, far1), l.slice(1, far1))
			},
			check: func(t *testing.T, l *lab) {
				to, away, none := netip.AddrPortFrom(l.external(0), 80), netip.AddrPortFrom(l.external(1), 80), netip.AddrPortFrom(l.external(2), 80)
				for _, network := range []string{"tcp", "udp"} {
					spreads(t, l.fromOutside(), network, to, here1)
					l.sees(t, l.fromOutside(), network, to, l.outside.Addr(l.v6()))
					l.sees(t, l.fromPod(), network, to, l.addr(client))
					l.sees(t, l.fromNode(), network, to, netip.Addr{})
				}
				swallows(t, away, l.fromOutside())
				for _, from := range []place{l.fromPod(), l.fromNode()} {
					spreads(t, from, "tcp", to, here1, far1)
					spreads(t, from, "tcp", away, far1)
				}
				for _, from := range l.everywhere() {
					refuses(t, from, none)
				}
			},
		},
		{
			name:  "externalTrafficPolicy Local: the last local endpoint goes and comes back",
			needs: ExternalLocal,
			state: func(l *lab) service.State {
				return l.world([]service.Service{local(l.loadBalancer(0, l.external(0)))}, l.slice(0, here1, far1))
			},
			check: func(t *testing.T, l *lab) {
				to := netip.AddrPortFrom(l.external(0), 80)
				for _, step := range []struct{ pods, outside, near []string }{
					{[]string{here1, far1}, []string{here1}, []string{here1, far1}},
					{[]string{far1}, nil, []string{far1}},
					{[]string{here2, far1}, []string{here2}, []string{here2, far1}},
					{[]string{here2}, []string{here2}, []string{here2}},
				} {
					l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{l.slice(0, step.pods...)}})
					spreads(t, l.fromPod(), "tcp", to, step.near...)
					spreads(t, l.fromNode(), "udp", to, step.near...)
					if len(step.outside) == 0 {
						swallows(t, to, l.fromOutside())
						continue
					}
					spreads(t, l.fromOutside(), "tcp", to, step.outside...)
					spreads(t, l.fromOutside(), "udp", to, step.outside...)
				}
			},
		},
		{
			name:  "externalTrafficPolicy Local on node ports and external IPs",
			needs: ExternalLocal,
			state: func(l *lab) service.State {
				a, b := local(l.nodePort(0)), local(l.nodePort(1))
				a.Spec.ExternalIPs = []string{l.external(0).String()}
				return l.world([]service.Service{a, b}, l.slice(0, here1, far1), l.slice(1, far1))
			},
			check: func(t *testing.T, l *lab) {
				for _, to := range []netip.AddrPort{l.uplink(0), netip.AddrPortFrom(l.external(0), 80)} {
					for _, network := range []string{"tcp", "udp"} {
						spreads(t, l.fromOutside(), network, to, here1)
						l.sees(t, l.fromOutside(), network, to, l.outside.Addr(l.v6()))
						l.sees(t, l.fromPod(), network, to, l.addr(client))
					}
					spreads(t, l.fromPod(), "tcp", to, here1, far1)
					spreads(t, l.fromNode(), "tcp", to, here1, far1)
				}
				swallows(t, l.uplink(1), l.fromOutside())
				spreads(t, l.fromPod(), "tcp", l.uplink(1), far1)
			},
		},
		{
			name:  "externalTrafficPolicy Local: an endpoint reaches itself, and affinity holds on either side",
			needs: ExternalLocal,
			state: func(l *lab) service.State {
				a, b := local(l.loadBalancer(0, l.external(0))), local(l.loadBalancer(1, l.external(1)))
				b.Spec.SessionAffinity = service.AffinityClientIP
				return l.world([]service.Service{a, b}, l.slice(0, here1), l.slice(1, here1, here2, far1, far2))
			},
			check: func(t *testing.T, l *lab) {
				spreads(t, place{name: "itself", ns: l.pods[here1].NS}, "tcp", netip.AddrPortFrom(l.external(0), 80), here1)
				to := netip.AddrPortFrom(l.external(1), 80)
				for _, from := range l.everywhere() {
					first := nstest.Reaches(t, from.ns, "tcp", to).Server
					spreads(t, from, "tcp", to, first)
				}
				first := nstest.Reaches(t, l.outside.NS, "tcp", to).Server
				if first != here1 && first != here2 {
					t.Fatalf("outside was answered by %s, which is not local", first)
				}
				// Its endpoint goes: for outside only the other local one is left.
				other := map[string]string{here1: here2, here2: here1}[first]
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{l.slice(1, other, far1, far2)}})
				spreads(t, l.fromOutside(), "tcp", to, other)
			},
		},
		{
			name:  "node ports on localhost",
			needs: Localhost,
			state: func(l *lab) service.State {
				s := l.world([]service.Service{l.nodePort(0), l.nodePort(1)}, l.slice(0, here1, far1))
				s.NodePorts.Localhost = true
				return s
			},
			check: func(t *testing.T, l *lab) {
				self := netip.MustParseAddr("127.0.0.1")
				if l.v6() {
					self = netip.IPv6Loopback()
				}
				at := func(n int) netip.AddrPort { return netip.AddrPortFrom(self, l.port(n)) }
				for _, network := range []string{"tcp", "udp"} {
					spreads(t, l.fromNode(), network, at(0), here1, far1)
					l.sees(t, l.fromNode(), network, at(0), netip.Addr{})
					spreads(t, l.fromOutside(), network, l.uplink(0), here1, far1)
				}
				refuses(t, l.fromNode(), at(1))
				refuses(t, l.fromPod(), at(0))
				// A server of the node that listens on loopback alone stays the node's: nobody else reaches it by way of node ports.
				nstest.ServeTCP(t, l.node.NS, netip.AddrPortFrom(self, 31999).String(), "node")
				spreads(t, l.fromNode(), "tcp", netip.AddrPortFrom(self, 31999), "node")
				if value, err := l.node.NS.Sysctl("net.ipv4.conf.all.route_localnet"); err != nil || value != "0" {
					t.Fatalf("route_localnet is %q, %v", value, err)
				}
				s := l.world([]service.Service{l.nodePort(0)}, l.slice(0, here1))
				l.sync(t, s)
				refuses(t, l.fromNode(), at(0))
				s.NodePorts.Localhost = true
				l.sync(t, s)
				spreads(t, l.fromNode(), "tcp", at(0), here1)
				nothing := l.name(0)
				l.update(t, service.Changes{DropServices: []service.Name{nothing}})
				nstest.ServeTCP(t, l.node.NS, fmt.Sprint(at(0)), "node")
				spreads(t, l.fromNode(), "tcp", at(0), "node")
			},
		},
	}
}
