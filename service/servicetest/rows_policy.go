package servicetest

import (
	"testing"
	"time"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

func policyRows() []row {
	local := service.PolicyLocal
	return []row{
		{
			name: "internalTrafficPolicy Local: only endpoints of this node, dropped when it has none",
			state: func(l *lab) service.State {
				a, b := l.service(0), l.service(1)
				a.Spec.InternalTrafficPolicy, b.Spec.InternalTrafficPolicy = &local, &local
				return l.world([]service.Service{a, b}, l.slice(0, here1, far1), l.slice(1, far1))
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
				}
				swallows(t, l.vip(1, 80), l.everywhere()...)
			},
		},
		{
			name: "hints: only the endpoints for this node",
			state: func(l *lab) service.State {
				s := l.slice(0, here1, far1)
				for i := range s.Endpoints {
					s.Endpoints[i].Hints = &service.Hints{ForNodes: []service.ForNode{{Name: *s.Endpoints[i].NodeName}}}
				}
				return l.world([]service.Service{l.service(0)}, s)
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
				}
			},
		},
		{
			name:  "session affinity: a client stays with its endpoint while it is there",
			needs: Affinity,
			state: func(l *lab) service.State {
				s := l.service(0)
				s.Spec.SessionAffinity = service.AffinityClientIP
				return l.world([]service.Service{s}, l.slice(0, here1, here2, far1, far2))
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					for _, network := range []string{"tcp", "udp"} {
						first := nstest.Reaches(t, from.ns, network, l.vip(0, 80)).Server
						spreads(t, from, network, l.vip(0, 80), first)
					}
				}
				first := nstest.Reaches(t, l.fromPod().ns, "tcp", l.vip(0, 80)).Server
				var others []string
				for _, pod := range []string{here1, here2, far1, far2} {
					if pod != first {
						others = append(others, pod)
					}
				}
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{l.slice(0, others...)}})
				second := nstest.Reaches(t, l.fromPod().ns, "tcp", l.vip(0, 80)).Server
				if second == first {
					t.Fatalf("still answered by %s, which is no endpoint any more", first)
				}
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), second)
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{l.slice(0)}})
				refuses(t, l.fromPod(), l.vip(0, 80))
			},
		},
		{
			name:  "session affinity ends when a client was silent for so long",
			needs: Affinity,
			state: func(l *lab) service.State {
				s, seconds := l.service(0), int32(1)
				s.Spec.SessionAffinity = service.AffinityClientIP
				s.Spec.SessionAffinityConfig = &service.AffinityConfig{ClientIP: &service.ClientIPConfig{TimeoutSeconds: &seconds}}
				return l.world([]service.Service{s}, l.slice(0, here1, here2, far1, far2))
			},
			check: func(t *testing.T, l *lab) {
				first := nstest.Reaches(t, l.fromPod().ns, "tcp", l.vip(0, 80)).Server
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), first)
				for range 10 { // the odds that chance gives the same one of four 10 times are one in a million
					<-time.After(1100 * time.Millisecond)
					if nstest.Reaches(t, l.fromPod().ns, "tcp", l.vip(0, 80)).Server != first {
						return
					}
				}
				t.Fatalf("still answered by %s alone", first)
			},
		},
	}
}
