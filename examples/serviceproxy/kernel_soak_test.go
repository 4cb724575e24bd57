package main

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podplumb/podplumb/netns"
)

// TestSoak churns Services for a few seconds; BenchmarkSoak for a minute.
func TestSoak(t *testing.T) {
	t.Parallel()
	soak(t, 5*time.Second)
}

// BenchmarkSoak changes 1,000 Services twenty times a second for a minute, under connections without end to all of them: none
// may fail. It reports how many there were, and the mean time from the change of an endpoint to the kernel that follows it.
func BenchmarkSoak(b *testing.B) {
	for b.Loop() {
		s := soak(b, time.Minute)
		b.ReportMetric(float64(s.connections), "connections")
		b.ReportMetric(float64(s.changes), "changes")
		b.ReportMetric(s.latency*1e3, "ms/change")
		b.ReportMetric(float64(s.slowest.Milliseconds()), "slowest-connect-ms")
	}
}

type soaked struct {
	connections, changes int
	latency              float64 // seconds from the change to the kernel, mean
	slowest              time.Duration
}

// soak fails the test when a connection to a Service fails that had a ready endpoint throughout.
func soak(t testing.TB, length time.Duration) soaked {
	const (
		services = 1000
		rate     = 20 // changes a second
		pods     = 4  // the last is a client
	)
	l := newLab(t, pods)
	a := newAPI()
	a.set(apiNode(nodeAddrs...))
	var to []netip.AddrPort
	for n := range services {
		a.set(apiService(n))
		a.set(churned(n, 0, pods-1), churned(n, 1, pods-1))
		to = append(to, netip.AddrPortFrom(clusterIP(n, n%2), 80))
	}
	p := start(t, l, "--master", l.server(t, a), "--service-cidr", "10.96.0.0/16,fd96::/112")
	reaches(t, l.pods[pods-1], "tcp", netip.AddrPortFrom(clusterIP(0, 0), 80), podsBehind(a, 0, 0)...)
	traffic := steady(t, []*netns.NS{l.pods[pods-1], l.pods[0], l.node, l.outside}, to)

	changes := 0
	ticker := time.NewTicker(time.Second / rate)
	defer ticker.Stop()
	extra := map[int]bool{}
	for end := time.Now().Add(length); time.Now().Before(end); changes++ {
		<-ticker.C
		n := rand.IntN(services)
		switch rand.IntN(10) {
		case 0: // a Service comes, or goes
			n = services + rand.IntN(50)
			if extra[n] = !extra[n]; extra[n] {
				a.set(apiService(n), churned(n, 0, pods-1))
			} else {
				a.drop(apiService(n), churned(n, 0, pods-1))
			}
		case 1: // a Service gets another form
			svc := apiService(n)
			if rand.IntN(2) == 0 {
				svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, int32(30000+n)
			}
			if rand.IntN(2) == 0 {
				svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
			}
			a.set(svc)
		default: // its endpoints change
			a.set(churned(n, rand.IntN(2), pods-1))
		}
	}
	// The proxy has kept up: what comes last is soon in force.
	a.set(apiService(2000))
	a.set(slices2(2000, 1)...)
	reaches(t, l.pods[pods-1], "tcp", netip.AddrPortFrom(clusterIP(2000, 1), 80), podName(1))
	require.Zero(t, p.metric(t, "podplumb_serviceproxy_failures_total"), p.Stderr())
	count := p.metric(t, "kubeproxy_network_programming_duration_seconds_count")
	require.Positive(t, count)
	latency := p.metric(t, "kubeproxy_network_programming_duration_seconds_sum") / count
	traffic.unharmed(t)
	return soaked{connections: traffic.opened, changes: changes, latency: latency, slowest: traffic.slow}
}

// churned is an EndpointSlice of a Service with some of the pods, at least one of them ready, and with endpoints that nobody
// is behind and that are not ready.
func churned(n, family, pods int) *discoveryv1.EndpointSlice {
	order := rand.Perm(pods)
	s := apiSlice(n, family, order[:1+rand.IntN(pods)]...)
	for i := range rand.IntN(3) {
		dead := fmt.Sprintf([]string{"10.244.0.%d", "fd44::%d"}[family], 100+i)
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{dead}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(false), Serving: ptr(false), Terminating: ptr(true)},
		})
	}
	return s
}

// podsBehind names the pods behind a Service.
func podsBehind(a *api, n, family int) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.now[slicesPath][fmt.Sprintf("default/svc-%d-%d", n, family)].(*discoveryv1.EndpointSlice)
	var names []string
	for pod := range 10 {
		for _, e := range s.Endpoints {
			if e.Addresses[0] == podAddr(pod, family).String() {
				names = append(names, podName(pod))
			}
		}
	}
	return names
}
