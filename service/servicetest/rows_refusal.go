package servicetest

import (
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/service"
)

func refusalRows() []row {
	return []row{
		{
			name:  "no endpoints: refused at once",
			state: func(l *lab) service.State { return l.one() },
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					refuses(t, from, l.vip(0, 80))
				}
			},
		},
		{
			name:  "unknown port of a cluster IP: refused at once",
			state: func(l *lab) service.State { return l.one(here1, far1) },
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					refuses(t, from, l.vip(0, 81))
					refuses(t, from, l.vip(0, podPort)) // the endpoint's port is none of the Service's
					spreads(t, from, "tcp", l.vip(0, 80), here1, far1)
				}
			},
		},
		{
			name: "a port of one protocol is no port of another",
			state: func(l *lab) service.State {
				s := l.service(0)
				s.Spec.Ports = s.Spec.Ports[:1]
				return l.world([]service.Service{s}, l.slice(0, here1))
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
					refusesOne(t, from, "udp", l.vip(0, 80))
				}
			},
		},
		{
			name:  "an unallocated address of the service range: dropped",
			state: func(l *lab) service.State { return l.one(here1) },
			check: func(t *testing.T, l *lab) {
				swallows(t, netip.AddrPortFrom(l.clusterIP(3), 80), l.everywhere()...)
			},
		},
		{
			name: "none is ready: endpoints that serve while terminating, or refused",
			state: func(l *lab) service.State {
				a, b := l.slice(0, here1, here2), l.slice(1, here1)
				no, yes := false, true
				a.Endpoints[0].Conditions = service.Conditions{Ready: &no, Serving: &yes, Terminating: &yes}
				a.Endpoints[1].Conditions = service.Conditions{Ready: &no, Serving: &no, Terminating: &no}
				b.Endpoints[0].Conditions = service.Conditions{Ready: &no, Serving: &no, Terminating: &yes}
				return l.world([]service.Service{l.service(0), l.service(1)}, a, b)
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
					refuses(t, from, l.vip(1, 80))
				}
			},
		},
	}
}
