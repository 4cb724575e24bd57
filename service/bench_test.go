package service_test

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

// bigState is n Services with three endpoints each, in EndpointSlices.
func bigState(n int) service.State {
	s := service.State{PodRanges: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}}
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		svc := webService(name, bigClusterIP(i))
		svc.Spec.Selector = nil
		s.Services = append(s.Services, svc)
		s.EndpointSlices = append(s.EndpointSlices, bigSlice(i, 3))
	}
	return s
}

func bigClusterIP(i int) string {
	return netip.AddrFrom4([4]byte{10, 96 + byte(i>>16), byte(i >> 8), byte(i)}).String()
}

func bigSlice(i, endpoints int) service.EndpointSlice {
	var ips []string
	for e := range endpoints {
		n := i*4 + e
		ips = append(ips, netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}).String())
	}
	name := fmt.Sprintf("web-%d", i)
	return webSlice(name+"-1", name, ips...)
}

// bigPods is the same Services with selectors, and the pods that they pick.
func bigPods(n int) service.State {
	s := service.State{}
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		s.Services = append(s.Services, webService(name, bigClusterIP(i)))
		for e, a := range bigSlice(i, 3).Endpoints {
			s.Pods = append(s.Pods, webPod(fmt.Sprintf("%s-%d", name, e), name, a.Addresses[0]))
		}
	}
	return s
}

// BenchmarkResolve reports how the time for 30,000 Services relates to that for 10,000: 3 is linear.
func BenchmarkResolve(b *testing.B) {
	for _, source := range []struct {
		name  string
		state func(int) service.State
	}{{"slices", bigState}, {"selectors", bigPods}} {
		b.Run(source.name, func(b *testing.B) {
			small, large := source.state(10_000), source.state(30_000)
			var at10, at30 time.Duration
			b.ReportAllocs()
			for b.Loop() {
				at10 += timed(b, func() error { _, err := service.Resolve(small, nodeA); return err })
				b.StopTimer()
				at30 += timed(b, func() error { _, err := service.Resolve(large, nodeA); return err })
				b.StartTimer()
			}
			b.ReportMetric(float64(at30)/float64(at10), "30k/10k")
			b.ReportMetric(float64(at10)/float64(b.N)/10_000, "ns/service")
		})
	}
}

func timed(b *testing.B, f func() error) time.Duration {
	b.Helper()
	start := time.Now()
	if err := f(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

// nothing is a Backend that costs nothing.
type nothing struct{}

func (nothing) Apply(context.Context, service.Plan) error { return nil }

// BenchmarkUpdate changes one EndpointSlice, at 1,000 and at 30,000 Services in turn, and reports the ratio: 1 is independent of the size.
func BenchmarkUpdate(b *testing.B) {
	ctx := context.Background()
	proxies := map[int]*service.Proxy{}
	for _, n := range []int{1_000, 30_000} {
		proxies[n] = newProxy(b, nothing{})
		_, err := proxies[n].Sync(ctx, bigState(n))
		require.NoError(b, err)
	}
	runtime.GC()
	spent := map[int]time.Duration{}
	b.ReportAllocs()
	round := 0
	for b.Loop() {
		for n, p := range proxies {
			change := service.Changes{EndpointSlices: []service.EndpointSlice{bigSlice(round%1000, 2+round/1000%2)}}
			spent[n] += timed(b, func() error {
				_, err := p.Update(ctx, change)
				return err
			})
		}
		round++
	}
	b.ReportMetric(float64(spent[30_000])/float64(spent[1_000]), "30k/1k")
	b.ReportMetric(float64(spent[30_000])/float64(b.N), "ns/update-at-30k")
}
