//go:build linux

package ipvs_test

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) {
	if os.Getenv(innerEnv) == "" {
		if err := flag.Set("test.skip", "^TestInner"); err != nil { // other tests run these
			panic(err)
		}
	}
	os.Exit(nstest.Main(m))
}

// lab is a client, a director and real servers: the client is the underlay of a cluster of one node, which routes the services'
// networks to the node, and the servers are the node's pods.
type lab struct {
	client   *netns.NS
	director *netns.NS
	pods     []nstest.End
	ipvs     *ipvs.Client
}

const serverPort = 8080

func newLab(t *testing.T, pods int) *lab {
	t.Helper()
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	c := nstest.NewCluster(t, 1, pods)
	c.RouteDirectly(t)
	node := c.Nodes[0]
	for _, p := range []string{"10.96.0.0/16", "fd96::/64"} {
		prefix := netip.MustParsePrefix(p)
		nstest.Route(t, c.Underlay, prefix, node.Addr(prefix.Addr().Is6()))
		nstest.Run(t, node.NS, "ip", "route", "add", "local", p, "dev", "lo")
	}
	l := &lab{client: c.Underlay, director: node.NS, pods: node.Pods}
	l.ipvs = newClient(t, node.NS, ipvs.Everything())
	for i, p := range l.pods {
		nstest.ServeTCP(t, p.NS, ":8080", label(i))
		nstest.ServeUDP(t, p.NS, ":8080", label(i))
	}
	return l
}

func label(i int) string { return string(rune('a' + i)) }

func newClient(t testing.TB, ns *netns.NS, owns ipvs.Owns) *ipvs.Client {
	t.Helper()
	c, err := ipvs.New(ipvs.Config{NetNS: ns, Owns: owns})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

// vip is the address of a service in the family.
func vip(v6 bool, port uint16) netip.AddrPort {
	a := netip.MustParseAddr("10.96.0.10")
	if v6 {
		a = netip.MustParseAddr("fd96::10")
	}
	return netip.AddrPortFrom(a, port)
}

func families(t *testing.T, test func(t *testing.T, v6 bool)) {
	t.Helper()
	t.Run("v4", func(t *testing.T) { test(t, false) })
	t.Run("v6", func(t *testing.T) { test(t, true) })
}

// masqueraded returns the pods of the lab as destinations with the weights; without weights, of weight one.
func (l *lab) masqueraded(v6 bool, weights ...uint32) []ipvs.Destination {
	if weights == nil {
		for range l.pods {
			weights = append(weights, 1)
		}
	}
	out := make([]ipvs.Destination, len(weights))
	for i, w := range weights {
		out[i] = ipvs.Destination{Address: netip.AddrPortFrom(l.pods[i].Addr(v6), serverPort), Weight: w}
	}
	return out
}

func (l *lab) sync(t *testing.T, services ...ipvs.Service) {
	t.Helper()
	_, err := l.ipvs.Sync(t.Context(), ipvs.State{Services: services})
	require.NoError(t, err)
}

// spread connects n times and counts which server answered.
func (l *lab) spread(t *testing.T, network string, to netip.AddrPort, n int) map[string]int {
	t.Helper()
	got := map[string]int{}
	for range n {
		got[nstest.Reaches(t, l.client, network, to).Server]++
	}
	return got
}

func TestSync(t *testing.T) {
	l := newLab(t, 3)
	want := ipvs.State{}
	for _, v6 := range []bool{false, true} {
		for _, p := range []ipvs.Protocol{ipvs.TCP, ipvs.UDP} {
			want.Services = append(want.Services, ipvs.Service{
				Key:          ipvs.Key{Protocol: p, Address: vip(v6, 80)},
				Scheduler:    ipvs.RoundRobin,
				Destinations: l.masqueraded(v6),
			})
		}
	}
	want = want.Canonical()
	empty, err := l.ipvs.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, ipvs.State{}, empty)
	for _, v6 := range []bool{false, true} {
		nstest.Refused(t, l.client, "tcp", vip(v6, 80))
	}

	p, err := l.ipvs.Plan(t.Context(), want)
	require.NoError(t, err)
	require.Equal(t, 16, strings.Count(p.String(), "+ "), p.String())
	did, err := l.ipvs.Sync(t.Context(), want)
	require.NoError(t, err)
	require.Equal(t, p.String(), did.String())

	for _, v6 := range []bool{false, true} {
		for _, network := range []string{"tcp", "udp"} {
			require.Equal(t, map[string]int{"a": 2, "b": 2, "c": 2}, l.spread(t, network, vip(v6, 80), 6), "%s %v", network, v6)
		}
		a := nstest.Reaches(t, l.client, "tcp", vip(v6, 80))
		require.NotEqual(t, l.pods[0].Addr(v6), a.Client.Addr(), "the client's own address arrives")
	}

	have, err := l.ipvs.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, have)
	requireIPVSADM(t, l.director, want)
	did, err = l.ipvs.Sync(t.Context(), want)
	require.NoError(t, err)
	require.True(t, did.Empty(), did.String())

	fresh := newClient(t, l.director, ipvs.Everything())
	did, err = fresh.Sync(t.Context(), ipvs.State{})
	require.NoError(t, err)
	require.Equal(t, 4, strings.Count(did.String(), "- service"))
	requireIPVSADM(t, l.director, ipvs.State{})
	nstest.Refused(t, l.client, "tcp", vip(false, 80))
}

func simple(vip string, destinations ...string) ipvs.Service {
	s := ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddrPort(vip)}, Scheduler: ipvs.RoundRobin}
	for _, d := range destinations {
		s.Destinations = append(s.Destinations, ipvs.Destination{Address: netip.MustParseAddrPort(d), Weight: 1})
	}
	return s
}

func TestOwnership(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	all := newClient(t, ns, ipvs.Everything())
	mine := newClient(t, ns, ipvs.Owns{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, Marks: []ipvs.MarkRange{{First: 5, Last: 9}}})
	foreign := []ipvs.Service{simple("10.97.0.1:80", "10.1.0.1:80"), simple("[fd96::1]:80"),
		{Key: ipvs.Key{Mark: 10, Family: ipvs.IPv4}, Scheduler: ipvs.RoundRobin}}
	own := []ipvs.Service{simple("10.96.0.1:80", "10.1.0.1:80"), {Key: ipvs.Key{Mark: 9, Family: ipvs.IPv6}, Scheduler: ipvs.RoundRobin}}
	_, err := all.Sync(t.Context(), ipvs.State{Services: append(foreign, own...)})
	require.NoError(t, err)
	have, err := mine.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, ipvs.State{Services: own}.Canonical(), have)
	others, err := mine.Foreign(t.Context())
	require.NoError(t, err)
	require.Len(t, others, 3)
	_, err = mine.Sync(t.Context(), ipvs.State{})
	require.NoError(t, err)
	requireIPVSADM(t, ns, ipvs.State{Services: foreign})

	_, err = mine.Sync(t.Context(), ipvs.State{Services: foreign})
	require.ErrorIs(t, err, ipvs.ErrNotOwned)
	require.ErrorContains(t, err, "services[2]: mark 10 ipv4: not among")
	_, err = mine.Update(t.Context(), ipvs.Change{Drop: []ipvs.Key{foreign[0].Key}})
	require.ErrorIs(t, err, ipvs.ErrNotOwned)
	require.ErrorIs(t, mine.Zero(t.Context(), foreign[0].Key), ipvs.ErrNotOwned)
	p, err := all.Plan(t.Context(), ipvs.State{})
	require.NoError(t, err)
	require.ErrorIs(t, mine.Apply(t.Context(), p), ipvs.ErrNotOwned)
	requireIPVSADM(t, ns, ipvs.State{Services: foreign})
}

func TestStale(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c, other := newClient(t, ns, ipvs.Everything()), newClient(t, ns, ipvs.Everything())
	one := ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80", "10.1.0.1:80")}}
	two := ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80", "10.1.0.1:80", "10.1.0.2:80"), simple("10.96.0.2:80")}}
	_, err := c.Sync(t.Context(), one)
	require.NoError(t, err)
	p, err := c.Plan(t.Context(), two)
	require.NoError(t, err)
	_, err = other.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80")}})
	require.NoError(t, err)
	err = c.Apply(t.Context(), p)
	require.ErrorIs(t, err, ipvs.ErrStale)
	require.ErrorContains(t, err, "ipvs: apply tcp 10.96.0.1:80")
	requireIPVSADM(t, ns, ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80")}})

	did, err := c.Sync(t.Context(), two)
	require.NoError(t, err)
	require.Equal(t, "+ destination tcp 10.96.0.1:80 10.1.0.1:80: masquerade weight 1\n+ destination tcp 10.96.0.1:80 10.1.0.2:80: masquerade weight 1\n"+
		"+ service tcp 10.96.0.2:80: rr\n", did.String())
	requireIPVSADM(t, ns, two)
}

// TestUpdate changes single services, also ones that others changed without the client's knowledge.
func TestUpdate(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c, other := newClient(t, ns, ipvs.Everything()), newClient(t, ns, ipvs.Everything())
	state := ipvs.State{Services: []ipvs.Service{simple("10.96.0.1:80", "10.1.0.1:80"), simple("10.96.0.2:80", "10.1.0.1:80"), simple("10.96.0.3:80")}}
	_, err := c.Sync(t.Context(), state)
	require.NoError(t, err)

	change := ipvs.Change{Set: []ipvs.Service{simple("10.96.0.1:80", "10.1.0.1:80", "10.1.0.2:80"), simple("[fd96::4]:80", "[fd01::1]:80")},
		Drop: []ipvs.Key{state.Services[2].Key, simple("10.96.9.9:80").Key}}
	did, err := c.Update(t.Context(), change)
	require.NoError(t, err)
	require.Equal(t, "+ destination tcp 10.96.0.1:80 10.1.0.2:80: masquerade weight 1\n- service tcp 10.96.0.3:80\n"+
		"+ service tcp [fd96::4]:80: rr\n+ destination tcp [fd96::4]:80 [fd01::1]:80: masquerade weight 1\n", did.String())
	state = state.Apply(change)
	requireIPVSADM(t, ns, state)
	did, err = c.Update(t.Context(), change)
	require.NoError(t, err)
	require.True(t, did.Empty())

	// The other removes what c is about to change, and adds what c is about to add.
	_, err = other.Update(t.Context(), ipvs.Change{Set: []ipvs.Service{simple("10.96.0.5:80", "10.1.0.9:80")},
		Drop: []ipvs.Key{simple("10.96.0.1:80").Key}})
	require.NoError(t, err)
	change = ipvs.Change{Set: []ipvs.Service{simple("10.96.0.1:80", "10.1.0.3:80"), simple("10.96.0.5:80", "10.1.0.1:80")}}
	_, err = c.Update(t.Context(), change)
	require.NoError(t, err)
	state = state.Apply(change)
	requireIPVSADM(t, ns, state)

	// What the client never heard of goes, too.
	_, err = other.Update(t.Context(), ipvs.Change{Set: []ipvs.Service{simple("10.96.0.8:80")}})
	require.NoError(t, err)
	did, err = c.Update(t.Context(), ipvs.Change{Drop: []ipvs.Key{simple("10.96.0.8:80").Key}})
	require.NoError(t, err)
	require.Equal(t, "- service tcp 10.96.0.8:80\n", did.String())
	requireIPVSADM(t, ns, state)

	// A client that knows nothing reads only what it changes.
	fresh := newClient(t, ns, ipvs.Everything())
	change = ipvs.Change{Set: []ipvs.Service{simple("10.96.0.2:80", "10.1.0.7:80"), simple("10.96.0.6:80")}, Drop: []ipvs.Key{simple("10.96.0.7:80").Key}}
	_, err = fresh.Update(t.Context(), change)
	require.NoError(t, err)
	state = state.Apply(change)
	requireIPVSADM(t, ns, state)
	_, err = fresh.Update(t.Context(), ipvs.Change{Set: []ipvs.Service{simple("10.96.0.2:80")}, Drop: []ipvs.Key{simple("10.96.0.2:80").Key}})
	require.ErrorContains(t, err, "drop[0]: tcp 10.96.0.2:80 is set[0] already")
}

func TestErrors(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	bad, good, engine := simple("10.96.0.1:80", "10.1.0.1:80"), simple("10.96.0.2:80", "10.1.0.1:80"), simple("10.96.0.3:80")
	bad.Scheduler = "nobody"
	engine.Persistence = ipvs.Persistence{Timeout: time.Minute, Engine: "nobody"}
	_, err := c.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{bad, good, engine}})
	require.ErrorIs(t, err, ipvs.ErrNoScheduler)
	require.ErrorIs(t, err, ipvs.ErrNoEngine)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "ipvs: add tcp 10.96.0.1:80: the kernel has no such scheduler (modprobe ip_vs_nobody)")
	require.NotContains(t, err.Error(), "->", "destinations of a service that could not be added are not named too")
	requireIPVSADM(t, ns, ipvs.State{Services: []ipvs.Service{good}})

	var op *ipvs.OpError
	require.ErrorAs(t, err, &op)
	require.Equal(t, "add", op.Op)
	require.ErrorIs(t, c.Zero(t.Context(), bad.Key), fs.ErrNotExist)

	_, err = c.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{{Key: ipvs.Key{Protocol: 1}}}})
	require.ErrorContains(t, err, "ipvs: sync: services[0].protocol: 1 is not tcp, udp or sctp\nservices[0].address: no address")

	// A plan may be of states that nobody validated.
	bad.Persistence = ipvs.Persistence{Timeout: time.Minute, Prefix: 40}
	ping := ipvs.Service{Key: ipvs.Key{Protocol: 1, Address: bad.Address}}
	err = c.Apply(t.Context(), ipvs.Diff(ipvs.State{}, ipvs.State{Services: []ipvs.Service{ping, bad, bad}}))
	require.EqualError(t, err, "ipvs: apply: changes[0].protocol: 1 is not tcp, udp or sctp\nchanges[1].persistence.prefix: 40 is not between 1 and 32\n"+
		"changes[2].persistence.prefix: 40 is not between 1 and 32\nchanges[2]: tcp 10.96.0.1:80 is changes[1] already")
	for _, err := range []error{
		func() error { _, err := c.Stats(t.Context(), good.Key, ipvs.Key{Mark: 1}); return err }(),
		c.Zero(t.Context(), good.Key, ipvs.Key{Mark: 1}),
	} {
		require.ErrorContains(t, err, "keys[1].family: 0 is neither ipv4 nor ipv6")
	}
	_, err = c.Drain(t.Context(), ipvs.Key{Protocol: ipvs.TCP}, netip.AddrPort{}, 0)
	require.ErrorContains(t, err, "keys[0].address: no address")
	require.EqualError(t, c.StopDaemon(t.Context(), 3), "ipvs: remove daemon: 3 is neither master nor backup")
	requireIPVSADM(t, ns, ipvs.State{Services: []ipvs.Service{good}})

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = c.Read(ctx)
	require.ErrorIs(t, err, context.Canceled)
	ctx, cancel = context.WithDeadline(t.Context(), time.Now().Add(-time.Second))
	defer cancel()
	_, err = c.Read(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = c.Read(t.Context())
	require.NoError(t, err, "the client works on")

	closed, err := ipvs.New(ipvs.Config{NetNS: ns, Owns: ipvs.Everything()})
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	_, err = closed.Read(t.Context())
	require.ErrorIs(t, err, os.ErrClosed)
	require.ErrorIs(t, closed.Close(), os.ErrClosed)
}

// TestNoIPVS is for kernels without.
func TestNoIPVS(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	_, err := ipvs.New(ipvs.Config{NetNS: nstest.New(t), Owns: ipvs.Everything()})
	if err == nil {
		t.Skip("this kernel has IPVS")
	}
	require.ErrorIs(t, err, ipvs.ErrNoIPVS)
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.EqualError(t, err, "ipvs: new: this kernel has no IPVS (modprobe ip_vs)")
}
