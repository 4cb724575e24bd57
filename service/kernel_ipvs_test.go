package service_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
	"github.com/podplumb/podplumb/service/servicetest"
)

func ipvsClient(t testing.TB, ns *netns.NS, owns ipvs.Owns) *ipvs.Client {
	t.Helper()
	c, err := ipvs.New(ipvs.Config{NetNS: ns, Owns: owns})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func ipvsBackend(t testing.TB, ns *netns.NS) *service.IPVSBackend {
	t.Helper()
	b := service.IPVS(ipvsClient(t, ns, ipvs.Everything()), natClient(t, ns))
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	return b
}

func TestIPVSConformance(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	servicetest.Run(t, servicetest.Config{
		New: func(t testing.TB, node *netns.NS) service.Backend {
			b := ipvsBackend(t, node)
			if fault, ok := faults[os.Getenv(brokenEnv)]; ok {
				return brokenBackend{b, fault.apply}
			}
			return b
		},
	})
}

// TestSuiteFindsFaultsInIPVS is TestSuiteFindsFaults for some faults of the other backend.
func TestSuiteFindsFaultsInIPVS(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	for _, name := range []string{"one endpoint of several", "too much masquerade", "changes forgotten", "drops forgotten"} {
		t.Run(name, func(t *testing.T) {
			row := strings.ReplaceAll(faults[name].row, " ", "_")
			cmd := exec.Command(os.Args[0], "-test.run", "^TestIPVSConformance$/^"+regexp.QuoteMeta(row)+"$/^IPv4$")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.True(t, errors.As(err, &exit), "the suite is content: %v\n%s", err, out)
			require.Contains(t, string(out), "--- FAIL: TestIPVSConformance/"+row)
		})
	}
}

// web is a cluster IP of one or the other family, and its endpoints.
func web(v6 bool, endpoints ...netip.Addr) service.Frontend {
	a := netip.MustParseAddr("10.96.0.10")
	if v6 {
		a = netip.MustParseAddr("fd96::10")
	}
	f := service.Frontend{Key: service.Key{Kind: service.KindClusterIP, Addr: a, Port: 80, Protocol: service.TCP},
		Service: service.Name{Namespace: "default", Name: "web"}}
	for _, e := range endpoints {
		f.Endpoints = append(f.Endpoints, service.Endpoint{Addr: netip.AddrPortFrom(e, 8080)})
	}
	return f
}

func unallocated(prefix string) service.Frontend {
	return service.Frontend{Key: service.Key{Kind: service.KindUnallocated, Range: netip.MustParsePrefix(prefix)}, Refusal: service.Drop}
}

// weights are the destinations of web with their weights.
func weights(t testing.TB, c *ipvs.Client, v6 bool) map[netip.Addr]uint32 {
	t.Helper()
	s, err := c.Read(t.Context())
	require.NoError(t, err)
	out := map[netip.Addr]uint32{}
	for _, v := range s.Services {
		if v.Address.Addr() == web(v6).Addr {
			for _, d := range v.Destinations {
				out[d.Address.Addr()] = d.Weight
			}
		}
	}
	return out
}

// TestIPVSDrain: connections to an endpoint that was removed go on, also when the Backend starts anew, until the time is over. New ones go
// elsewhere at once.
func TestIPVSDrain(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	cluster := nstest.NewCluster(t, 1, 3)
	cluster.RouteDirectly(t)
	node, outside := cluster.Nodes[0], cluster.Underlay
	for i, p := range node.Pods {
		nstest.ServeTCP(t, p.NS, ":8080", string(rune('a'+i)))
	}
	nstest.Route(t, outside, netip.MustParsePrefix("10.96.0.0/16"), node.Addr(false))
	nstest.Route(t, outside, netip.MustParsePrefix("fd96::/112"), node.Addr(true))
	look := ipvsClient(t, node.NS, ipvs.Everything())
	pod := func(n int, v6 bool) netip.Addr { return node.Pods[n].Addr(v6) }
	apply := func(b service.Backend, full bool, pods ...int) {
		plan := service.Plan{Full: full}
		if full {
			plan.Set = append(plan.Set, unallocated("10.96.0.0/16"), unallocated("fd96::/112"))
		}
		for _, v6 := range []bool{false, true} {
			f := web(v6)
			for _, n := range pods {
				f.Endpoints = append(f.Endpoints, web(v6, pod(n, v6)).Endpoints...)
			}
			plan.Set = append(plan.Set, f)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, b.Apply(ctx, plan))
	}
	to := func(v6 bool) netip.AddrPort { return netip.AddrPortFrom(web(v6).Addr, 80) }

	first := ipvsBackend(t, node.NS)
	apply(first, true, 0)
	flows := map[bool]*nstest.Flow{}
	for _, v6 := range []bool{false, true} {
		flow, err := nstest.Dial(t, outside, "tcp", to(v6))
		require.NoError(t, err)
		flows[v6] = flow
	}
	still := func(when string) {
		t.Helper()
		for v6, flow := range flows {
			a, err := flow.Ask()
			require.NoError(t, err, "%s, v6 %t", when, v6)
			require.Equal(t, "a", a.Server, when)
		}
	}
	still("at first")
	apply(first, false, 1)
	still("after its endpoint went")
	for _, v6 := range []bool{false, true} {
		require.Equal(t, "b", nstest.Reaches(t, outside, "tcp", to(v6)).Server)
		require.Equal(t, map[netip.Addr]uint32{pod(0, v6): 0, pod(1, v6): 1}, weights(t, look, v6))
	}
	apply(first, false)
	still("after all endpoints went")
	for _, v6 := range []bool{false, true} {
		nstest.Refused(t, outside, "tcp", to(v6))
	}
	apply(first, false, 0)
	require.Equal(t, uint32(1), weights(t, look, false)[pod(0, false)], "it came back")
	apply(first, false, 2)
	require.NoError(t, first.Close())
	require.ErrorIs(t, first.Apply(t.Context(), service.Plan{}), os.ErrClosed)

	second := ipvsBackend(t, node.NS)
	second.Drain = 3 * time.Second
	apply(second, true, 2)
	still("with another Backend")
	for _, v6 := range []bool{false, true} {
		require.Equal(t, uint32(0), weights(t, look, v6)[pod(0, v6)])
		require.Eventually(t, func() bool { return len(weights(t, look, v6)) == 1 }, time.Minute, 50*time.Millisecond, "the time is over")
		_, err := flows[v6].Ask()
		require.Error(t, err)
		require.Equal(t, "c", nstest.Reaches(t, outside, "tcp", to(v6)).Server)
	}

	// An endpoint without connections goes at once, and with a Drain below zero one with connections too.
	idle := ipvsBackend(t, node.NS)
	idle.Drain = -1
	apply(idle, true, 1, 2)
	apply(idle, false, 2)
	require.Len(t, weights(t, look, false), 1)
	require.NoError(t, idle.Apply(t.Context(), service.Plan{Full: true}))
	require.Empty(t, weights(t, look, false))
}
