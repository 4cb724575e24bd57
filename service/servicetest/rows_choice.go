package servicetest

import (
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

// The zones of the node under test and of the other one.
const (
	nodeZone = "zone-a"
	farZone  = "zone-b"
)

// zoned adds the nodes, each in a zone of its own.
func (l *lab) zoned(s service.State) service.State {
	self := l.self()
	self.Labels = map[string]string{service.LabelZone: nodeZone}
	far := service.Node{Meta: service.Meta{Name: farName, Labels: map[string]string{service.LabelZone: farZone}}}
	s.Nodes = append(s.Nodes, self, far)
	return s
}

// object is a pod as an object, picked by the row's n-th Service when that has a selector.
func (l *lab) object(n int, name string, ready bool) service.Pod {
	of := l.name(n)
	p := service.Pod{
		Meta: service.Meta{Namespace: of.Namespace, Name: of.Name + "-" + name, Labels: map[string]string{"app": of.Name}},
		Spec: service.PodSpec{NodeName: l.nodeOf(name)},
	}
	p.Status.PodIPs = []service.PodIP{{IP: l.addr(name).String()}}
	status := "False"
	if ready {
		status = "True"
	}
	p.Status.Conditions = []service.PodCondition{{Type: "Ready", Status: status}}
	return p
}

// gone is the name of such a pod.
func (l *lab) gone(n int, name string) service.Name {
	p := l.object(n, name, true)
	return p.Key()
}

// picking is the row's n-th Service with a selector.
func (l *lab) picking(n int) service.Service {
	s := l.service(n)
	s.Spec.Selector = map[string]string{"app": l.name(n).Name}
	return s
}

func choiceRows() []row {
	return []row{
		{
			name: "hints for zones: only the endpoints for this zone",
			state: func(l *lab) service.State {
				s := l.slice(0, here1, far1)
				for i, zone := range []string{nodeZone, farZone} {
					s.Endpoints[i].Hints = &service.Hints{ForZones: []service.ForZone{{Name: zone}}}
				}
				return l.zoned(l.world([]service.Service{l.service(0)}, s))
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
				}
				// One endpoint without a hint: hints count for nothing.
				s := l.slice(0, here1, far1)
				s.Endpoints[0].Hints = &service.Hints{ForZones: []service.ForZone{{Name: nodeZone}}}
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{s}})
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here1, far1)
			},
		},
		{
			name: "trafficDistribution of Services with a selector",
			state: func(l *lab) service.State {
				s := l.zoned(l.world(nil))
				for n, d := range []service.TrafficDistribution{service.PreferClose, service.PreferSameZone, service.PreferSameNode} {
					svc := l.picking(n)
					svc.Spec.TrafficDistribution = &d
					s.Services = append(s.Services, svc)
					s.Pods = append(s.Pods, l.object(n, here1, true), l.object(n, here2, true), l.object(n, far1, true))
				}
				return s
			},
			check: func(t *testing.T, l *lab) {
				for n := range 3 {
					spreads(t, l.fromPod(), "tcp", l.vip(n, 80), here1, here2)
					spreads(t, l.fromOutside(), "udp", l.vip(n, 80), here1, here2)
				}
				// None is left nearby: the others serve.
				for n := range 3 {
					l.update(t, service.Changes{DropPods: []service.Name{l.gone(n, here1), l.gone(n, here2)}})
					spreads(t, l.fromPod(), "tcp", l.vip(n, 80), far1)
				}
			},
		},
		{
			name: "ready endpoints first, then those that serve while they terminate, never the others",
			state: func(l *lab) service.State {
				s := l.slice(0, here1, here2, far1)
				no, yes := false, true
				s.Endpoints[1].Conditions = service.Conditions{Ready: &no, Serving: &yes, Terminating: &yes}
				s.Endpoints[2].Conditions = service.Conditions{Ready: &no, Serving: &no}
				return l.world([]service.Service{l.service(0)}, s)
			},
			check: func(t *testing.T, l *lab) {
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here1)
				s := l.slice(0, here2, far1)
				no, yes := false, true
				s.Endpoints[0].Conditions = service.Conditions{Ready: &no, Serving: &yes, Terminating: &yes}
				s.Endpoints[1].Conditions = service.Conditions{Ready: &no, Serving: &no}
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{s}})
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here2)
				s.Endpoints = s.Endpoints[1:]
				l.update(t, service.Changes{EndpointSlices: []service.EndpointSlice{s}})
				refuses(t, l.fromPod(), l.vip(0, 80))
			},
		},
		{
			name: "publishNotReadyAddresses",
			state: func(l *lab) service.State {
				early, late := l.picking(0), l.picking(1)
				early.Spec.PublishNotReadyAddresses = true
				s := l.world([]service.Service{early, late})
				s.Pods = append(s.Pods, l.object(0, here1, false), l.object(1, here1, false))
				return s
			},
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
					refuses(t, from, l.vip(1, 80))
				}
				l.update(t, service.Changes{Pods: []service.Pod{l.object(1, here1, true)}})
				spreads(t, l.fromPod(), "tcp", l.vip(1, 80), here1)
			},
		},
		{
			name: "a Service of another proxy is left to it",
			state: func(l *lab) service.State {
				other := l.service(0)
				other.Labels = map[string]string{service.LabelProxyName: "other"}
				return l.world([]service.Service{other, l.service(1)}, l.slice(0, here1), l.slice(1, here1))
			},
			check: func(t *testing.T, l *lab) {
				swallows(t, l.vip(0, 80), l.fromPod())
				spreads(t, l.fromPod(), "tcp", l.vip(1, 80), here1)
				l.update(t, service.Changes{Services: []service.Service{l.service(0)}})
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here1)
			},
		},
		{
			name:  "a load balancer address of mode Proxy is left to the load balancer",
			needs: LoadBalancers,
			state: func(l *lab) service.State {
				s := l.loadBalancer(0, l.external(0), l.external(1))
				mode := service.ModeProxy
				s.Status.LoadBalancer.Ingress[1].IPMode = &mode
				return l.world([]service.Service{s}, l.slice(0, here1, far1))
			},
			check: func(t *testing.T, l *lab) {
				to := netip.AddrPortFrom(l.external(1), 80)
				spreads(t, l.fromPod(), "tcp", netip.AddrPortFrom(l.external(0), 80), here1, far1)
				for _, from := range l.everywhere() {
					nstest.Unanswered(t, from.ns, "tcp", to) // that it would be answered is seen below
				}
				s := l.loadBalancer(0, l.external(0), l.external(1))
				l.update(t, service.Changes{Services: []service.Service{s}})
				spreads(t, l.fromPod(), "tcp", to, here1, far1)
			},
		},
	}
}
