package service_test

import (
	"context"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/service"
)

// TestIPVSDivision: what IPVS serves and what it leaves to nat.
func TestIPVSDivision(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	nstest.Run(t, ns, "ip", "link", "set", "lo", "up")
	nstest.Run(t, ns, "ip", "address", "add", "192.0.2.1/24", "dev", "lo")
	before := nstest.Run(t, ns, "/bin/sh", "-c", "ip route show table all; ip -6 route show table all; nft list ruleset")
	look, table := ipvsClient(t, ns, ipvs.Everything()), natClient(t, ns)
	mine := ipvsClient(t, ns, ipvs.Owns{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("192.0.2.0/24"),
		netip.MustParsePrefix("198.51.100.0/24")}})
	b := service.IPVS(mine, table)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	b.Scheduler = func(f service.Frontend) ipvs.Scheduler {
		return map[string]ipvs.Scheduler{"hash": ipvs.Maglev, "odd": "nobody"}[f.Service.Name]
	}
	front := func(name string, kind service.Kind, addr string, port uint16, change ...func(*service.Frontend)) service.Frontend {
		f := web(false, netip.MustParseAddr("10.244.0.2"))
		f.Key = service.Key{Kind: kind, Addr: netip.MustParseAddr(addr), Port: port, Protocol: service.TCP}
		f.Service.Name = name
		for _, c := range change {
			c(&f)
		}
		return f
	}
	affinity := func(d time.Duration) func(*service.Frontend) { return func(f *service.Frontend) { f.Affinity = d } }
	plan := service.Plan{Full: true, Set: []service.Frontend{
		unallocated("10.96.0.0/16"), unallocated("fd96::/112"),
		front("plain", service.KindClusterIP, "10.96.0.1", 80),
		front("hash", service.KindClusterIP, "10.96.0.2", 80),
		front("long", service.KindClusterIP, "10.96.0.3", 80, affinity(3*time.Hour)),
		front("short", service.KindClusterIP, "10.96.0.4", 80, affinity(time.Minute)),
		front("empty", service.KindClusterIP, "10.96.0.5", 80, func(f *service.Frontend) { f.Endpoints = nil }),
		front("local", service.KindLoadBalancer, "198.51.100.1", 80, func(f *service.Frontend) { f.Near, f.Masquerade = f.Endpoints, service.MasqueradeNode }),
		front("external", service.KindExternalIP, "198.51.100.2", 80, func(f *service.Frontend) { f.Sources = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} }),
		front("own", service.KindExternalIP, "192.0.2.1", 80),
		front("elsewhere", service.KindExternalIP, "203.0.113.1", 80),
		front("port", service.KindNodePort, "0.0.0.0", 30080),
	}}
	would, err := b.Plan(t.Context(), plan.Set)
	require.NoError(t, err)
	require.Contains(t, would.String(), "+ service tcp 10.96.0.2:80: mh")
	require.Contains(t, would.String(), "+ forward 10.96.0.5:80/tcp")
	require.NoError(t, b.Apply(t.Context(), plan))
	would, err = b.Plan(t.Context(), plan.Set)
	require.NoError(t, err)
	require.True(t, would.Empty(), would.String())

	want := map[string]string{
		"10.96.0.1:80": "rr", "10.96.0.2:80": "mh", "10.96.0.3:80": "rr persistent 3h0m0s", "198.51.100.2:80": "rr", "192.0.2.1:80": "rr",
	}
	served := func() map[string]string {
		s, err := look.Read(t.Context())
		require.NoError(t, err)
		got := map[string]string{}
		for _, v := range s.Services {
			got[v.Address.String()] = v.Scheduler.String()
			if v.Persistence.Timeout != 0 {
				got[v.Address.String()] += " persistent " + v.Persistence.Timeout.String()
			}
		}
		return got
	}
	require.Equal(t, want, served())
	forwards, err := table.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, forwards.Forwards, 10)
	for _, f := range forwards.Forwards {
		_, led := want[netip.AddrPortFrom(f.Addr, f.Port).String()]
		require.Equal(t, led, f.Elsewhere, f.Key())
	}
	require.NotEmpty(t, forwards.Local, "virtual addresses have no node ports")
	for _, p := range forwards.Local {
		require.False(t, p.Overlaps(netip.MustParsePrefix("10.96.0.0/16")), p)
	}
	ranges, err := look.Ranges(t.Context())
	require.NoError(t, err)
	require.Equal(t, []ipvs.Range{{Prefix: netip.MustParsePrefix("10.96.0.0/16"), Source: netip.MustParseAddr("192.0.2.1")},
		{Prefix: netip.MustParsePrefix("198.51.100.2/32"), Source: netip.MustParseAddr("192.0.2.1")}}, ranges)
	switches, err := look.Sysctls()
	require.NoError(t, err)
	require.Equal(t, ipvs.Recommended(), switches)

	all := func() string { // programs take long where the processor is emulated
		servers, err := look.Read(t.Context())
		require.NoError(t, err)
		ranges, err := look.Ranges(t.Context())
		require.NoError(t, err)
		forwards, err := table.Read(t.Context())
		require.NoError(t, err)
		return fmt.Sprintf("%+v\n%v\n%+v", servers, ranges, forwards)
	}
	good := all()
	require.NoError(t, b.Apply(t.Context(), plan), "the same again")
	require.Equal(t, good, all())

	// What cannot be done whole is not done.
	odd := front("odd", service.KindClusterIP, "10.96.0.9", 80)
	fine := front("fine", service.KindExternalIP, "198.51.100.7", 80)
	err = b.Apply(t.Context(), service.Plan{Set: []service.Frontend{odd, fine}})
	var unserved *service.UnservedError
	require.ErrorAs(t, err, &unserved)
	require.Equal(t, odd.Key, unserved.Key)
	require.ErrorIs(t, err, ipvs.ErrNoScheduler)
	require.Equal(t, good, all(), "nothing changed")
	long := fine
	long.Endpoints = make([]service.Endpoint, 1)
	require.Error(t, b.Apply(t.Context(), service.Plan{Set: []service.Frontend{fine, long}}))
	require.Equal(t, good, all(), "nothing changed")
	broken := nat.Config{NetNS: ns, Table: "other"}
	gone, err := nat.New(broken)
	require.NoError(t, err)
	require.NoError(t, gone.Close())
	half := service.IPVS(mine, gone)
	require.Error(t, half.Apply(t.Context(), service.Plan{Set: []service.Frontend{fine, unallocated("198.51.100.0/25")}}))
	require.NoError(t, half.Close())
	require.Equal(t, good, all(), "taken back")

	// An address without a range comes and goes with its route.
	require.NoError(t, b.Apply(t.Context(), service.Plan{Set: []service.Frontend{fine}}))
	require.Contains(t, served(), "198.51.100.7:80")
	require.Contains(t, all(), "198.51.100.7/32 from 192.0.2.1")
	require.NoError(t, b.Apply(t.Context(), service.Plan{Drop: []service.Key{fine.Key}}))
	require.Equal(t, good, all())

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	require.NoError(t, b.Apply(ctx, service.Plan{Full: true}))
	require.Empty(t, served())
	require.Equal(t, before, nstest.Run(t, ns, "/bin/sh", "-c", "ip route show table all; ip -6 route show table all; nft list ruleset"))
}
