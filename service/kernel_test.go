package service_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

func natClient(t testing.TB, ns *netns.NS) *nat.Client {
	t.Helper()
	nstest.Require(t, nstest.NFTables)
	c, err := nat.New(nat.Config{NetNS: ns})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// natState is a State of every kind of Frontend that the NAT backend serves.
func natState() service.State {
	s := service.State{
		PodRanges:     []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd44::/48")},
		ServiceRanges: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("fd96::/112")},
		NodePorts:     service.NodePortAddresses{In: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}},
	}
	one, two := webService("one", ""), webService("two", "10.96.0.2")
	one.Spec.ClusterIPs = []string{"10.96.0.1", "fd96::1"}
	one.Spec.ExternalIPs = []string{"198.51.100.1", "2001:db8::1"}
	one.Spec.Type, one.Spec.Ports[0].NodePort = service.TypeLoadBalancer, 30080
	one.Spec.LoadBalancerSourceRanges = []string{"192.0.2.0/24", "2001:db8:1::/48"}
	one.Status.LoadBalancer.Ingress = []service.Ingress{{IP: "203.0.113.1"}, {IP: "2001:db8:f::1"}}
	two.Spec.Ports = append(two.Spec.Ports, service.Port{Name: "dns", Port: 53, Protocol: service.UDP}, service.Port{Name: "sig", Port: 5060, Protocol: service.SCTP})
	two.Spec.Ports[0].Name = "http"
	two.Spec.SessionAffinity = service.AffinityClientIP
	pod := webPod("p1", "one", "10.244.0.1")
	pod.Status.PodIPs = append(pod.Status.PodIPs, service.PodIP{IP: "fd44::1"})
	s.Services = []service.Service{one, two}
	s.Pods = []service.Pod{pod, webPod("p2", "two", "10.244.0.2"), webPod("p3", "two", "10.244.0.3")}
	return s
}

func TestNATKeepsWhatIsNotItsOwn(t *testing.T) {
	nstest.Leaks(t)
	ctx := context.Background()
	ns := nstest.New(t)
	client := natClient(t, ns)
	own := nat.State{
		Networks: []nat.Network{{Prefix: netip.MustParsePrefix("10.244.0.0/24"), Name: "pods"}},
		Exclude:  []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}
	_, err := client.Sync(ctx, own)
	require.NoError(t, err)

	p := newProxy(t, service.NAT(client))
	_, err = p.Sync(ctx, natState())
	require.NoError(t, err)
	have, err := client.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, own.Networks, have.Networks)
	require.Len(t, have.Forwards, 11)
	require.Len(t, have.Virtual, 2)
	require.Equal(t, natState().NodePorts.In, have.Local)

	// The same again changes nothing, also for a Proxy and a client that start anew.
	plan, err := p.Sync(ctx, natState())
	require.NoError(t, err)
	require.True(t, plan.Empty(), plan.String())
	require.NoError(t, client.Close())
	client = natClient(t, ns)
	_, err = newProxy(t, service.NAT(client)).Sync(ctx, natState())
	require.NoError(t, err)
	again, err := client.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, have, again)

	p = newProxy(t, service.NAT(client))
	_, err = p.Sync(ctx, service.State{})
	require.NoError(t, err)
	left, err := client.Read(ctx)
	require.NoError(t, err)
	require.Equal(t, own.Networks, left.Networks)
	require.Empty(t, left.Forwards)
	require.Empty(t, left.Virtual)
	require.Empty(t, left.Local)
}

func TestNATLeavesNothing(t *testing.T) {
	nstest.Leaks(t)
	ctx := context.Background()
	ns := nstest.New(t)
	before := nstest.Run(t, ns, "nft", "list", "ruleset")
	p := newProxy(t, service.NAT(natClient(t, ns)))
	_, err := p.Sync(ctx, natState())
	require.NoError(t, err)
	table := nstest.Run(t, ns, "nft", "list", "ruleset")
	for _, part := range []string{"default/one", "default/two:dns", "10.96.0.0/16"} {
		require.Contains(t, table, part)
	}
	_, err = p.Sync(ctx, service.State{})
	require.NoError(t, err)
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
}

// TestNATEqualsFullSync drives a Proxy on the kernel through random changes, and holds what the kernel has against a whole Sync of the same State.
func TestNATEqualsFullSync(t *testing.T) {
	nstest.Leaks(t)
	ctx := context.Background()
	stepped, whole := natClient(t, nstest.New(t)), natClient(t, nstest.New(t))
	p := newProxy(t, service.NAT(stepped))
	w := newRandomWorld(rand.New(rand.NewPCG(7, 7)))
	w.plain = true
	for n, s := range w.services {
		w.services[n] = onlyNAT(s)
	}
	_, err := p.Sync(ctx, w.state())
	require.NoError(t, err)
	for step := range 60 {
		_, err := p.Update(ctx, w.change())
		require.NoError(t, err, "step %d", step)
		_, err = newProxy(t, service.NAT(whole)).Sync(ctx, w.state())
		require.NoError(t, err, "step %d", step)
		have, err := stepped.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, w.nodePorts() > 0, len(have.Local) > 0, "step %d", step)
		want, err := whole.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, want, have, "step %d", step)
	}
}

func TestNATUnserved(t *testing.T) {
	nstest.Leaks(t)
	ctx := context.Background()
	client := natClient(t, nstest.New(t))
	backend := service.NAT(client)
	frontend := func(i, endpoints int) service.Frontend {
		f := service.Frontend{Key: service.Key{Kind: service.KindClusterIP, Addr: netip.MustParseAddr(bigClusterIP(i)), Port: 80, Protocol: service.TCP}}
		for n := range endpoints {
			f.Endpoints = append(f.Endpoints, service.Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 128 + byte(n>>16), byte(n >> 8), byte(n)}), 8080)})
		}
		return f
	}
	many, few := frontend(1, 1<<16+1), frontend(2, 3)
	err := backend.Apply(ctx, service.Plan{Full: true, Set: []service.Frontend{many, few}})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "does not serve 65537 endpoints, only 65536")
	var unserved *service.UnservedError
	require.ErrorAs(t, err, &unserved)
	require.Equal(t, many.Key, unserved.Key)
	have, err := client.Read(ctx)
	require.NoError(t, err)
	require.Empty(t, have.Forwards, "a refused Plan changes nothing")
	require.NoError(t, backend.Apply(ctx, service.Plan{Full: true, Set: []service.Frontend{few}}))
}

// BenchmarkUpdateNAT changes one EndpointSlice, from the object to the committed rules, at 1,000 and at 30,000 Services in turn. It reports the ratio of
// the two, and the ratio to the floor: the same change given to the nat client directly.
func BenchmarkUpdateNAT(b *testing.B) {
	ctx := context.Background()
	type side struct {
		proxy  *service.Proxy
		client *nat.Client
		spent  time.Duration
	}
	sides := map[int]*side{}
	for _, n := range []int{1_000, 30_000} {
		s := &side{client: natClient(b, nstest.New(b))}
		s.proxy = newProxy(b, service.NAT(s.client))
		_, err := s.proxy.Sync(ctx, bigState(n))
		require.NoError(b, err)
		sides[n] = s
	}
	var floor time.Duration
	round := 0
	for b.Loop() {
		for _, s := range sides {
			change := service.Changes{EndpointSlices: []service.EndpointSlice{bigSlice(round%900, 2+round/900%2)}}
			s.spent += timed(b, func() error {
				_, err := s.proxy.Update(ctx, change)
				return err
			})
		}
		bare := nat.Forward{Addr: netip.MustParseAddr(bigClusterIP(999)), Port: 80, Proto: nat.TCP, Name: "default/web-999"}
		for _, e := range bigSlice(999, 2+round%2).Endpoints {
			bare.To = append(bare.To, nat.Target{Addr: netip.MustParseAddr(e.Addresses[0]), Port: 8080})
		}
		floor += timed(b, func() error {
			_, err := sides[30_000].client.Update(ctx, nat.Change{Set: []nat.Forward{bare}})
			return err
		})
		round++
	}
	b.ReportMetric(float64(sides[30_000].spent)/float64(sides[1_000].spent), "30k/1k")
	b.ReportMetric(float64(sides[30_000].spent)/float64(floor), "of-nat-alone")
	b.ReportMetric(float64(sides[30_000].spent)/float64(b.N), "ns/update-at-30k")
}
