package servicetest

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

// port is the node port of the row's n-th Service.
func (l *lab) port(n int) uint16 { return uint16(30000 + 10*l.index + n) }

// nodePort gives the row's n-th Service a node port, for both protocols.
func (l *lab) nodePort(n int) service.Service {
	s := l.service(n)
	s.Spec.Type = service.TypeNodePort
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = int32(l.port(n))
	}
	return s
}

// uplink and bridge are node ports on the address that the node has to the outside and to its pods.
func (l *lab) uplink(n int) netip.AddrPort { return netip.AddrPortFrom(l.node.Addr(l.v6()), l.port(n)) }

func (l *lab) bridge(n int) netip.AddrPort {
	if l.v6() {
		return netip.AddrPortFrom(gateway(l.node.PodV6), l.port(n))
	}
	return netip.AddrPortFrom(gateway(l.node.PodV4), l.port(n))
}

func nodePortRows() []row {
	return []row{
		{
			name:  "node port on every address of the node",
			needs: NodePorts,
			state: func(l *lab) service.State {
				return l.world([]service.Service{l.nodePort(0), l.nodePort(1)}, l.slice(0, here1, far1))
			},
			check: func(t *testing.T, l *lab) {
				l.servesExternal(t, l.uplink(0))
				spreads(t, l.fromPod(), "tcp", l.bridge(0), here1, far1)
				spreads(t, l.fromNode(), "tcp", l.bridge(0), here1, far1)
				for _, from := range l.everywhere() {
					refuses(t, from, l.uplink(1))
				}
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{l.slice(0), l.slice(1, far1)}})
				for _, from := range l.everywhere() {
					refuses(t, from, l.uplink(0))
					spreads(t, from, "tcp", l.uplink(1), far1)
					spreads(t, from, "udp", l.uplink(1), far1)
				}
			},
		},
		{
			name:  "node ports of the node alone: other nodes and the node's own servers are left alone",
			needs: NodePorts,
			state: func(l *lab) service.State { return l.world([]service.Service{l.nodePort(0)}, l.slice(0, here1)) },
			check: func(t *testing.T, l *lab) {
				nstest.ServeTCP(t, l.node.NS, fmt.Sprintf(":%d", l.port(1)), "node")
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.uplink(0), here1)
					spreads(t, from, "tcp", l.uplink(1), "node")
					refuses(t, from, netip.AddrPortFrom(l.far.Addr(l.v6()), l.port(0)))
				}
				nstest.ServeTCP(t, l.far.NS, fmt.Sprintf(":%d", l.port(0)), "far")
				spreads(t, l.fromNode(), "tcp", netip.AddrPortFrom(l.far.Addr(l.v6()), l.port(0)), "far")
			},
		},
		{
			name:  "node ports on chosen addresses, and what a change of the choice does",
			needs: NodePorts,
			state: func(l *lab) service.State {
				s := l.world([]service.Service{l.nodePort(0)}, l.slice(0, here1))
				s.NodePorts.In = []netip.Prefix{l.node.V4.Masked(), l.node.V6.Masked()}
				return s
			},
			check: func(t *testing.T, l *lab) {
				spreads(t, l.fromOutside(), "tcp", l.uplink(0), here1)
				refuses(t, l.fromPod(), l.bridge(0))
				s := l.world([]service.Service{l.nodePort(0)}, l.slice(0, here1))
				s.NodePorts.In = []netip.Prefix{l.node.PodV4, l.node.PodV6}
				l.sync(t, s)
				spreads(t, l.fromPod(), "tcp", l.bridge(0), here1)
				refuses(t, l.fromOutside(), l.uplink(0))
				s.NodePorts = service.NodePortAddresses{Primary: true}
				l.sync(t, s)
				spreads(t, l.fromOutside(), "tcp", l.uplink(0), here1)
				refuses(t, l.fromPod(), l.bridge(0))
			},
		},
		{
			name:  "a node port comes, changes and goes",
			needs: NodePorts,
			state: func(l *lab) service.State { return l.world([]service.Service{l.service(0)}, l.slice(0, here1)) },
			check: func(t *testing.T, l *lab) {
				for _, step := range []struct {
					service service.Service
					open    []int
				}{{l.service(0), nil}, {l.nodePort(0), []int{0}}, {l.moved(), []int{1}}, {l.service(0), nil}} {
					l.update(t, service.Changes{Services: []service.Service{step.service}})
					for n := range 2 {
						for _, from := range l.everywhere() {
							if len(step.open) > 0 && step.open[0] == n {
								spreads(t, from, "tcp", l.uplink(n), here1)
							} else {
								refuses(t, from, l.uplink(n))
							}
						}
					}
					spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here1)
				}
			},
		},
	}
}

// moved is the row's first Service on the node port of its second.
func (l *lab) moved() service.Service {
	s := l.nodePort(0)
	for i := range s.Spec.Ports {
		s.Spec.Ports[i].NodePort = int32(l.port(1))
	}
	return s
}
