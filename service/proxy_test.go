package service_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

// ledger is a Backend that keeps Frontends in memory and obeys the contract of Apply to the letter.
type ledger struct {
	mu    sync.Mutex
	have  map[service.Key]service.Frontend
	plans []service.Plan
	fail  error
}

func (l *ledger) Apply(_ context.Context, p service.Plan) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.plans = append(l.plans, p)
	if l.fail != nil {
		return l.fail
	}
	if p.Full || l.have == nil {
		l.have = map[service.Key]service.Frontend{}
	}
	for _, k := range p.Drop {
		delete(l.have, k)
	}
	for _, f := range p.Set {
		l.have[f.Key] = f
	}
	return nil
}

func (l *ledger) sorted() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for _, f := range l.have {
		list = append(list, f.String())
	}
	slices.Sort(list)
	return list
}

func (l *ledger) last() service.Plan { return l.plans[len(l.plans)-1] }

var nodeA = service.Node{Meta: service.Meta{Name: "a", Labels: map[string]string{service.LabelZone: "z1"}}}

func newProxy(t testing.TB, b service.Backend) *service.Proxy {
	t.Helper()
	p, err := service.New(service.Config{Node: nodeA, Backend: b})
	require.NoError(t, err)
	return p
}

func object(name string) service.Meta { return service.Meta{Namespace: "default", Name: name} }

func webService(name, ip string) service.Service {
	return service.Service{Meta: object(name), Spec: service.Spec{
		ClusterIP: ip, Ports: []service.Port{{Port: 80, TargetPort: service.PortRef{Number: 8080}}}, Selector: map[string]string{"app": name},
	}}
}

func webPod(name, app, ip string) service.Pod {
	m := object(name)
	m.Labels = map[string]string{"app": app}
	return service.Pod{Meta: m, Spec: service.PodSpec{NodeName: "a"}, Status: service.PodStatus{
		PodIPs: []service.PodIP{{IP: ip}}, Conditions: []service.PodCondition{{Type: "Ready", Status: "True"}},
	}}
}

func webSlice(name, of string, ips ...string) service.EndpointSlice {
	port := int32(8080)
	m := object(name)
	m.Labels = map[string]string{service.LabelServiceName: of}
	s := service.EndpointSlice{Meta: m, AddressType: service.AddressIPv4, Ports: []service.SlicePort{{Port: &port}}}
	for _, ip := range ips {
		s.Endpoints = append(s.Endpoints, service.SliceEndpoint{Addresses: []string{ip}})
	}
	return s
}

func TestProxyUpdatesOnlyWhatAChangeTouches(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var l ledger
	p := newProxy(t, &l)
	plan, err := p.Sync(ctx, service.State{
		Services: []service.Service{webService("one", "10.96.0.1"), webService("two", "10.96.0.2")},
		Pods:     []service.Pod{webPod("p1", "one", "10.244.0.1"), webPod("p2", "two", "10.244.0.2")},
	})
	require.NoError(t, err)
	require.Len(t, plan.Set, 4)
	require.True(t, l.last().Full)

	steps := []struct {
		name   string
		change service.Changes
		plan   string
	}{
		{"pod comes", service.Changes{Pods: []service.Pod{webPod("p3", "two", "10.244.0.3")}},
			"~ cluster-ip 10.96.0.2:80/TCP default/two -> 10.244.0.2:8080 local, 10.244.0.3:8080 local\n"},
		{"same pod again", service.Changes{Pods: []service.Pod{webPod("p3", "two", "10.244.0.3")}}, ""},
		{"pod that nobody selects", service.Changes{Pods: []service.Pod{webPod("p9", "nine", "10.244.0.9")}}, ""},
		{"pod moves by its label", service.Changes{Pods: []service.Pod{webPod("p3", "one", "10.244.0.3")}},
			"~ cluster-ip 10.96.0.1:80/TCP default/one -> 10.244.0.1:8080 local, 10.244.0.3:8080 local\n" +
				"~ cluster-ip 10.96.0.2:80/TCP default/two -> 10.244.0.2:8080 local\n"},
		{"pod goes", service.Changes{DropPods: []service.Name{{Namespace: "default", Name: "p2"}}}, "~ cluster-ip 10.96.0.2:80/TCP default/two -> reject\n"},
		{"slice takes over", service.Changes{EndpointSlices: []service.EndpointSlice{webSlice("s", "two", "10.244.7.7")}},
			"~ cluster-ip 10.96.0.2:80/TCP default/two -> 10.244.7.7:8080\n"},
		{"pod of a Service with slices", service.Changes{Pods: []service.Pod{webPod("p4", "two", "10.244.0.4")}}, ""},
		{"slice moves to another Service", service.Changes{EndpointSlices: []service.EndpointSlice{webSlice("s", "one", "10.244.7.7")}},
			"~ cluster-ip 10.96.0.1:80/TCP default/one -> 10.244.7.7:8080\n~ cluster-ip 10.96.0.2:80/TCP default/two -> 10.244.0.4:8080 local\n"},
		{"slice goes", service.Changes{DropEndpointSlices: []service.Name{{Namespace: "default", Name: "s"}}},
			"~ cluster-ip 10.96.0.1:80/TCP default/one -> 10.244.0.1:8080 local, 10.244.0.3:8080 local\n"},
		{"what is not there goes", service.Changes{DropEndpointSlices: []service.Name{{Namespace: "x", Name: "s"}}, DropPods: []service.Name{{Namespace: "x", Name: "s"}}, DropServices: []service.Name{{Namespace: "x", Name: "s"}}, DropNodes: []string{"x"}}, ""},
		{"Services trade addresses", service.Changes{Services: []service.Service{webService("one", "10.96.0.2"), webService("two", "10.96.0.1")}},
			"~ cluster-ip 10.96.0.1:80/TCP default/two -> 10.244.0.4:8080 local\n" +
				"~ cluster-ip 10.96.0.2:80/TCP default/one -> 10.244.0.1:8080 local, 10.244.0.3:8080 local\n" +
				"~ unknown-port 10.96.0.1 default/two -> reject\n~ unknown-port 10.96.0.2 default/one -> reject\n"},
		{"Service goes", service.Changes{DropServices: []service.Name{{Namespace: "default", Name: "one"}}},
			"- cluster-ip 10.96.0.2:80/TCP\n- unknown-port 10.96.0.2\n"},
	}
	for _, s := range steps {
		calls := len(l.plans)
		plan, err := p.Update(ctx, s.change)
		require.NoError(t, err, s.name)
		require.Equal(t, s.plan, plan.String(), s.name)
		if s.plan == "" {
			require.Len(t, l.plans, calls, "%s: the backend was called for nothing", s.name)
		} else {
			require.Equal(t, s.plan, l.last().String(), s.name)
			require.False(t, l.last().Full, s.name)
		}
	}
	plan, err = p.Sync(ctx, service.State{})
	require.NoError(t, err)
	require.Len(t, plan.Drop, 2)
	require.Empty(t, l.sorted())
}

func TestProxyRefusesFaultyChangesWhole(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var l ledger
	p := newProxy(t, &l)
	_, err := p.Sync(ctx, service.State{Services: []service.Service{webService("one", "10.96.0.1"), webService("two", "10.96.0.2")}})
	require.NoError(t, err)
	before := l.sorted()

	_, err = p.Update(ctx, service.Changes{
		Services:     []service.Service{webService("three", "10.96.0.3"), webService("two", "10.96.0.1"), webService("four", "10.96.0.3")},
		DropServices: []service.Name{{Namespace: "default", Name: "gone"}},
	})
	require.ErrorIs(t, err, service.ErrConflict)
	require.ErrorContains(t, err, "services[default/two].spec.clusterIPs: 10.96.0.1: conflict with services[default/one]")
	require.ErrorContains(t, err, "services[default/four].spec.clusterIPs: 10.96.0.3: conflict with services[default/three]")
	var field *service.FieldError
	require.ErrorAs(t, err, &field)
	_, err = p.Update(ctx, service.Changes{
		Pods: []service.Pod{webPod("P", "one", "10.244.0")}, EndpointSlices: []service.EndpointSlice{webSlice("s", "one", "10.244.0.1")},
		DropEndpointSlices: []service.Name{{Namespace: "default", Name: "s"}},
	})
	for _, part := range []string{"pods[default/P].metadata.name", "pods[default/P].status.podIPs[0].ip", "dropEndpointSlices[0]: default/s is set as well"} {
		require.ErrorContains(t, err, part)
	}
	require.Equal(t, before, l.sorted())

	// Nothing of it stayed behind: what was refused can be had now.
	_, err = p.Update(ctx, service.Changes{Services: []service.Service{webService("four", "10.96.0.3"), webService("two", "10.96.0.4")}})
	require.NoError(t, err)
	_, err = p.Update(ctx, service.Changes{Services: []service.Service{webService("five", "10.96.0.2")}})
	require.NoError(t, err)
}

func TestProxyCatchesUpAfterABackendError(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	broken := errors.New("broken")
	l := ledger{fail: broken}
	p := newProxy(t, &l)
	_, err := p.Sync(ctx, service.State{Services: []service.Service{webService("one", "10.96.0.1"), webService("two", "10.96.0.2")}})
	require.ErrorIs(t, err, broken)
	l.fail = nil
	_, err = p.Update(ctx, service.Changes{})
	require.NoError(t, err)
	require.True(t, l.last().Full, "the backend never took the first Sync")
	require.Len(t, l.sorted(), 4)

	l.fail = broken
	_, err = p.Update(ctx, service.Changes{Pods: []service.Pod{webPod("p1", "one", "10.244.0.1")}, DropServices: []service.Name{{Namespace: "default", Name: "two"}}})
	require.ErrorIs(t, err, broken)
	_, err = p.Update(ctx, service.Changes{Pods: []service.Pod{webPod("p1", "one", "10.244.0.7")}})
	require.ErrorIs(t, err, broken)
	l.fail = nil
	plan, err := p.Update(ctx, service.Changes{Services: []service.Service{webService("three", "10.96.0.3")}})
	require.NoError(t, err)
	require.Len(t, plan.Set, 2, "the Plan is what changed now")
	require.Equal(t, []string{
		"cluster-ip 10.96.0.1:80/TCP default/one -> 10.244.0.7:8080 local", "cluster-ip 10.96.0.3:80/TCP default/three -> reject",
		"unknown-port 10.96.0.1 default/one -> reject", "unknown-port 10.96.0.3 default/three -> reject",
	}, l.sorted())
	calls := len(l.plans)
	_, err = p.Update(ctx, service.Changes{})
	require.NoError(t, err)
	require.Len(t, l.plans, calls)
}

func TestProxyFollowsNodes(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var l ledger
	p := newProxy(t, &l)
	s := webService("one", "10.96.0.1")
	near := service.PreferClose
	s.Spec.TrafficDistribution = &near
	b := webPod("p2", "one", "10.244.1.1")
	b.Spec.NodeName = "b"
	node := func(name, zone string) service.Node {
		return service.Node{Meta: service.Meta{Name: name, Labels: map[string]string{service.LabelZone: zone}}}
	}
	_, err := p.Sync(ctx, service.State{
		Services: []service.Service{s}, Pods: []service.Pod{webPod("p1", "one", "10.244.0.1"), b}, Nodes: []service.Node{node("a", "z1"), node("b", "z2")},
	})
	require.NoError(t, err)
	for _, step := range []struct {
		change service.Changes
		want   string
	}{
		{service.Changes{}, "10.244.0.1:8080 local"},
		{service.Changes{Nodes: []service.Node{node("b", "z1")}}, "10.244.0.1:8080 local, 10.244.1.1:8080"},
		{service.Changes{Nodes: []service.Node{node("b", "z3")}}, "10.244.0.1:8080 local"},
		{service.Changes{DropNodes: []string{"b"}}, "10.244.0.1:8080 local, 10.244.1.1:8080"},
		{service.Changes{Nodes: []service.Node{node("b", "z3")}}, "10.244.0.1:8080 local"},
		{service.Changes{Nodes: []service.Node{node("a", "z3")}}, "10.244.0.1:8080 local, 10.244.1.1:8080"},
	} {
		_, err := p.Update(ctx, step.change)
		require.NoError(t, err)
		require.Equal(t, "cluster-ip 10.96.0.1:80/TCP default/one -> "+step.want, l.sorted()[0])
	}
}

// TestProxyEqualsResolve throws random changes at a Proxy and holds it, after each, against Resolve on the whole State.
func TestProxyEqualsResolve(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			l := ledger{}
			p := newProxy(t, &l)
			w := newRandomWorld(r)
			_, err := p.Sync(ctx, w.state())
			require.NoError(t, err)
			for step := range 200 {
				l.fail = nil
				if r.IntN(10) == 0 {
					l.fail = errors.New("flaky")
				}
				_, err := p.Update(ctx, w.change())
				require.ErrorIs(t, err, l.failure(err))
				want, err := service.Resolve(w.state(), nodeA)
				require.NoError(t, err)
				require.Equal(t, lines(want), lines(p.Frontends()), "step %d", step)
				checks, err := service.HealthChecks(w.state(), nodeA)
				require.NoError(t, err)
				require.Equal(t, checks, p.HealthChecks(), "step %d", step)
				if l.fail == nil {
					var have []string
					for _, f := range want {
						have = append(have, f.String())
					}
					slices.Sort(have)
					require.Equal(t, strings.Join(have, "\n"), strings.Join(l.sorted(), "\n"), "step %d: the backend", step)
				}
			}
		})
	}
}

// failure returns what an Update has to return, given what it did: nothing changed is no error even with a failing backend.
func (l *ledger) failure(got error) error {
	if got == nil {
		return nil
	}
	return l.fail
}

func TestProxyInUseByMany(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var l ledger
	p := newProxy(t, &l)
	_, err := p.Sync(ctx, service.State{Services: []service.Service{webService("one", "10.96.0.1")}})
	require.NoError(t, err)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 20 {
				ip := netip.AddrFrom4([4]byte{10, 244, byte(i), byte(j + 1)}).String()
				if _, err := p.Update(ctx, service.Changes{Pods: []service.Pod{webPod(fmt.Sprintf("p%d", i), "one", ip)}}); err != nil {
					t.Error(err)
				}
				p.Frontends()
			}
		})
	}
	wg.Wait()
	require.Len(t, p.Frontends()[0].Endpoints, 8)
}

func TestNew(t *testing.T) {
	t.Parallel()
	_, err := service.New(service.Config{})
	require.ErrorContains(t, err, "backend: required")
	_, err = service.New(service.Config{Backend: &ledger{}, Node: service.Node{Meta: service.Meta{Name: "?"}}})
	require.ErrorContains(t, err, "metadata.name")
	p, err := service.New(service.Config{Backend: &ledger{}})
	require.NoError(t, err)
	require.Empty(t, p.Frontends())
}

func TestAffinityTimeout(t *testing.T) {
	t.Parallel()
	s := webService("one", "10.96.0.1")
	s.Spec.SessionAffinity = service.AffinityClientIP
	seconds := int32(90)
	s.Spec.SessionAffinityConfig = &service.AffinityConfig{ClientIP: &service.ClientIPConfig{TimeoutSeconds: &seconds}}
	got, err := service.Resolve(service.State{Services: []service.Service{s}, Pods: []service.Pod{webPod("p", "one", "10.244.0.1")}}, nodeA)
	require.NoError(t, err)
	require.Equal(t, 90*time.Second, got[0].Affinity)
}

// picky is a ledger that serves no node ports.
type picky struct{ ledger }

func (b *picky) Apply(ctx context.Context, p service.Plan) error {
	var errs []error
	for _, f := range p.Set {
		if f.Kind == service.KindNodePort {
			errs = append(errs, &service.UnservedError{Key: f.Key, Service: f.Service, Err: errors.ErrUnsupported})
		}
	}
	if len(errs) > 0 {
		return fmt.Errorf("picky: %w", errors.Join(errs...))
	}
	return b.ledger.Apply(ctx, p)
}

func TestProxyServesTheRestOfWhatABackendRefuses(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	var b picky
	p := newProxy(t, &b)
	port := func(n int32) service.Service {
		s := webService("port", "10.96.0.2")
		s.Spec.Type, s.Spec.Ports[0].NodePort = service.TypeNodePort, n
		return s
	}
	_, err := p.Sync(ctx, service.State{Services: []service.Service{webService("one", "10.96.0.1"), port(30080)}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "service: sync frontends: picky: node-port *4:30080/TCP of default/port: unsupported operation")
	require.Len(t, b.sorted(), 4)

	_, err = p.Update(ctx, service.Changes{Pods: []service.Pod{webPod("p1", "one", "10.244.0.1")}})
	require.NoError(t, err, "the refusal was for its own call")
	_, err = p.Update(ctx, service.Changes{Pods: []service.Pod{webPod("p2", "port", "10.244.0.2"), webPod("p3", "one", "10.244.0.3")}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Equal(t, []string{
		"cluster-ip 10.96.0.1:80/TCP default/one -> 10.244.0.1:8080 local, 10.244.0.3:8080 local",
		"cluster-ip 10.96.0.2:80/TCP default/port -> 10.244.0.2:8080 local",
		"unknown-port 10.96.0.1 default/one -> reject", "unknown-port 10.96.0.2 default/port -> reject",
	}, b.sorted())
	_, err = p.Update(ctx, service.Changes{})
	require.NoError(t, err)

	// A failure beside the refusal is a failure of everything.
	b.fail = errors.New("broken")
	_, err = p.Update(ctx, service.Changes{Services: []service.Service{port(30081)}, DropPods: []service.Name{{Namespace: "default", Name: "p3"}}})
	require.ErrorIs(t, err, b.fail)
	b.fail = nil
	_, err = p.Update(ctx, service.Changes{})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.Equal(t, "cluster-ip 10.96.0.1:80/TCP default/one -> 10.244.0.1:8080 local", b.sorted()[0])
}
