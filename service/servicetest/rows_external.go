package servicetest

import (
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

// loadBalancer turns the row's n-th Service into a load balancer's, on these addresses.
func (l *lab) loadBalancer(n int, addrs ...netip.Addr) service.Service {
	s := l.service(n)
	s.Spec.Type = service.TypeLoadBalancer
	for _, a := range addrs {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, service.Ingress{IP: a.String()})
	}
	return s
}

// servesExternal requires that an address is served as one from outside the cluster: everybody reaches every endpoint and is seen as the node.
func (l *lab) servesExternal(t *testing.T, to netip.AddrPort) {
	t.Helper()
	for _, from := range l.everywhere() {
		for _, network := range []string{"tcp", "udp"} {
			spreads(t, from, network, to, here1, far1)
			for range 6 {
				if a := nstest.Reaches(t, from.ns, network, to); !l.isNode(a.Client.Addr()) {
					t.Fatalf("%s from %s: %s saw %s, want an address of the node", network, from.name, a.Server, a.Client.Addr())
				}
			}
		}
	}
}

func externalRows() []row {
	return []row{
		{
			name:  "external IP",
			needs: ExternalIPs,
			state: func(l *lab) service.State {
				s, none := l.service(0), l.service(1)
				s.Spec.ExternalIPs, none.Spec.ExternalIPs = []string{l.external(0).String()}, []string{l.external(1).String()}
				return l.world([]service.Service{s, none}, l.slice(0, here1, far1))
			},
			check: func(t *testing.T, l *lab) {
				l.servesExternal(t, netip.AddrPortFrom(l.external(0), 80))
				for _, from := range l.everywhere() {
					refuses(t, from, netip.AddrPortFrom(l.external(1), 80))
				}
			},
		},
		{
			name:  "load balancer address",
			needs: LoadBalancers,
			state: func(l *lab) service.State {
				return l.world([]service.Service{l.loadBalancer(0, l.external(0), l.external(1))}, l.slice(0, here1, far1))
			},
			check: func(t *testing.T, l *lab) {
				l.servesExternal(t, netip.AddrPortFrom(l.external(0), 80))
				spreads(t, l.fromOutside(), "tcp", netip.AddrPortFrom(l.external(1), 80), here1, far1)
				l.update(t, service.Changes{Services: []service.Service{l.loadBalancer(0, l.external(1))}})
				nstest.Unanswered(t, l.fromPod().ns, "tcp", netip.AddrPortFrom(l.external(0), 80)) // the load balancer gave it up
				spreads(t, l.fromOutside(), "tcp", netip.AddrPortFrom(l.external(1), 80), here1, far1)
			},
		},
		{
			name:  "source ranges bind the load balancer's address, not the cluster IP",
			needs: SourceRanges,
			state: func(l *lab) service.State {
				in, out := l.loadBalancer(0, l.external(0)), l.loadBalancer(1, l.external(1))
				host := l.outside.Addr(l.v6())
				in.Spec.LoadBalancerSourceRanges = []string{netip.PrefixFrom(host, host.BitLen()).String()}
				elsewhere := l.external(3)
				out.Spec.LoadBalancerSourceRanges = []string{netip.PrefixFrom(elsewhere, elsewhere.BitLen()).String()}
				return l.world([]service.Service{in, out}, l.slice(0, here1, far1), l.slice(1, here1, far1))
			},
			check: func(t *testing.T, l *lab) {
				spreads(t, l.fromOutside(), "tcp", netip.AddrPortFrom(l.external(0), 80), here1, far1)
				swallows(t, netip.AddrPortFrom(l.external(0), 80), l.fromPod())
				swallows(t, netip.AddrPortFrom(l.external(1), 80), l.fromOutside())
				spreads(t, l.fromOutside(), "tcp", l.vip(1, 80), here1, far1)
				open := l.loadBalancer(1, l.external(1))
				l.update(t, service.Changes{Services: []service.Service{open}})
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", netip.AddrPortFrom(l.external(1), 80), here1, far1)
				}
			},
		},
	}
}
