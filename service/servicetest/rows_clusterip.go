package servicetest

import (
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

func clusterIPRows() []row {
	return []row{
		{
			name:  "cluster IP spreads over endpoints of every node",
			state: func(l *lab) service.State { return l.one(here1, here2, far1) },
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1, here2, far1)
				}
			},
		},
		{
			name:  "cluster IP over UDP",
			state: func(l *lab) service.State { return l.one(here1, far1) },
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "udp", l.vip(0, 80), here1, far1)
				}
			},
		},
		{
			name:  "a pod is seen with its own address",
			state: func(l *lab) service.State { return l.one(here1, far1) },
			check: func(t *testing.T, l *lab) {
				for range 12 { // both endpoints come by
					for _, network := range []string{"tcp", "udp"} {
						if a := nstest.Reaches(t, l.fromPod().ns, network, l.vip(0, 80)); a.Client.Addr() != l.addr(client) {
							t.Fatalf("%s saw the pod as %s", a.Server, a.Client.Addr())
						}
					}
				}
			},
		},
		{
			name:  "the node and outside are seen as the node",
			state: func(l *lab) service.State { return l.one(here1, far1) },
			check: func(t *testing.T, l *lab) {
				for _, from := range []place{l.fromNode(), l.fromOutside()} {
					for range 12 {
						for _, network := range []string{"tcp", "udp"} {
							if a := nstest.Reaches(t, from.ns, network, l.vip(0, 80)); !l.isNode(a.Client.Addr()) {
								t.Fatalf("%s saw %s as %s, want an address of the node", a.Server, from.name, a.Client.Addr())
							}
						}
					}
				}
			},
		},
		{
			name:  "hairpin: a pod reaches itself through its Service",
			state: func(l *lab) service.State { return l.one(client) },
			check: func(t *testing.T, l *lab) {
				for _, network := range []string{"tcp", "udp"} {
					a := nstest.Reaches(t, l.fromPod().ns, network, l.vip(0, 80))
					if a.Server != client || !l.isNode(a.Client.Addr()) {
						t.Fatalf("answered by %s, which saw %s, want an address of the node", a.Server, a.Client.Addr())
					}
				}
			},
		},
		{
			name: "endpoints chosen by label, with another named port in each pod",
			state: func(l *lab) service.State {
				s := l.service(0)
				s.Spec.Selector = map[string]string{"app": "web"}
				s.Spec.Ports[0].TargetPort = service.PortRef{Name: "http"}
				st := l.world([]service.Service{s})
				st.Pods = []service.Pod{l.pod(here1, "web", podPort), l.pod(far1, "web", altPort), l.pod(here2, "db", podPort)}
				return st
			},
			check: func(t *testing.T, l *lab) {
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here1, far1)
				ports := map[string]uint16{}
				for range 12 {
					a := nstest.Reaches(t, l.fromPod().ns, "tcp", l.vip(0, 80))
					ports[a.Server] = a.Local.Port()
				}
				if ports[here1] != podPort || ports[far1] != altPort {
					t.Fatalf("ports %v", ports)
				}
			},
		},
		{
			name: "Services do not mix",
			state: func(l *lab) service.State {
				b := l.service(1)
				b.Spec.Ports[1].Port = 81
				return l.world([]service.Service{l.service(0), b}, l.slice(0, here1), l.slice(1, far1))
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
					spreads(t, from, "tcp", l.vip(1, 80), far1)
					spreads(t, from, "udp", l.vip(0, 80), here1)
					spreads(t, from, "udp", l.vip(1, 81), far1)
				}
			},
		},
		{
			name:  "the pod's own address stays reachable, untranslated",
			state: func(l *lab) service.State { return l.one(here1) },
			check: func(t *testing.T, l *lab) {
				for _, pod := range []string{here1, far1} {
					for _, network := range []string{"tcp", "udp"} {
						if a := nstest.Reaches(t, l.fromPod().ns, network, netip.AddrPortFrom(l.addr(pod), podPort)); a.Server != pod || a.Client.Addr() != l.addr(client) {
							t.Fatalf("%s %s: %+v", network, pod, a)
						}
					}
				}
			},
		},
	}
}

// pod is a pod object with one named port.
func (l *lab) pod(name, app string, port int32) service.Pod {
	return service.Pod{
		Meta: service.Meta{Namespace: "default", Name: name, Labels: map[string]string{"app": app}},
		Spec: service.PodSpec{
			NodeName:   l.nodeOf(name),
			Containers: []service.Container{{Name: "c", Ports: []service.ContainerPort{{Name: "http", ContainerPort: port}}}},
		},
		Status: service.PodStatus{
			Phase: "Running", PodIPs: []service.PodIP{{IP: l.addr(name).String()}}, Conditions: []service.PodCondition{{Type: "Ready", Status: "True"}},
		},
	}
}
