//go:build linux

package ipvs_test

import (
	"net/netip"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// TestRanges: one route and one table make virtual addresses work from outside and from the node itself, and their other ports refuse even
// where a program of the node listens on them.
func TestRanges(t *testing.T) {
	l := newLab(t, 2)
	for _, p := range []string{"10.96.0.0/16", "fd96::/64"} {
		nstest.Run(t, l.director, "ip", "route", "del", "local", p, "dev", "lo")
	}
	before := nstest.Run(t, l.director, "/bin/sh", "-c", "ip route show table all; ip -6 route show table all; nft list ruleset")
	var ranges []ipvs.Range
	var services []ipvs.Service
	for _, v6 := range []bool{false, true} {
		source := nstest.Reaches(t, l.director, "tcp", netip.AddrPortFrom(l.pods[0].Addr(v6), serverPort)).Client.Addr()
		prefix := netip.MustParsePrefix("10.96.0.0/16")
		if v6 {
			prefix = netip.MustParsePrefix("fd96::/64")
		}
		ranges = append(ranges, ipvs.Range{Prefix: prefix, Source: source})
		services = append(services, l.service(v6, ipvs.TCP, ipvs.RoundRobin), l.service(v6, ipvs.UDP, ipvs.RoundRobin))
	}
	l.sync(t, services...)
	nstest.ServeTCP(t, l.director, ":9090", "node")
	nstest.ServeUDP(t, l.director, ":9090", "node")
	require.NoError(t, l.ipvs.SyncRanges(t.Context(), ranges))
	have, err := l.ipvs.Ranges(t.Context())
	require.NoError(t, err)
	require.Equal(t, ranges, have)
	after := nstest.Run(t, l.director, "/bin/sh", "-c", "nft -a list ruleset")
	require.NoError(t, l.ipvs.SyncRanges(t.Context(), ranges))
	require.Equal(t, after, nstest.Run(t, l.director, "/bin/sh", "-c", "nft -a list ruleset"), "nothing is written twice")
	for i, v6 := range []bool{false, true} {
		for _, network := range []string{"tcp", "udp"} {
			require.Equal(t, map[string]int{"a": 2, "b": 2}, l.spread(t, network, vip(v6, 80), 4))
			a := nstest.Reaches(t, l.director, network, vip(v6, 80))
			require.Equal(t, ranges[i].Source, a.Client.Addr(), "the node's connections come from its own address")
			nstest.Refused(t, l.client, network, vip(v6, 9090))
			nstest.Refused(t, l.client, network, vip(v6, 81))
			nstest.Refused(t, l.director, network, vip(v6, 9090))
		}
		require.Equal(t, "node", nstest.Reaches(t, l.client, "tcp", netip.AddrPortFrom(ranges[i].Source, 9090)).Server)
	}

	// The guard comes back when it was changed, and goes with an open range.
	nstest.Run(t, l.director, "nft", "flush chain inet podplumb-ipvs unserved")
	require.NoError(t, l.ipvs.SyncRanges(t.Context(), ranges))
	nstest.Refused(t, l.client, "tcp", vip(false, 9090))
	nstest.Run(t, l.director, "nft", "delete element inet podplumb-ipvs ranges4 { 10.96.0.0/16 }")
	require.NoError(t, l.ipvs.SyncRanges(t.Context(), ranges))
	nstest.Refused(t, l.client, "tcp", vip(false, 9090))
	ranges[0].Open = true
	require.NoError(t, l.ipvs.SyncRanges(t.Context(), ranges))
	require.Equal(t, "node", nstest.Reaches(t, l.client, "tcp", vip(false, 9090)).Server)
	nstest.Refused(t, l.client, "tcp", vip(true, 9090))
	have, err = l.ipvs.Ranges(t.Context())
	require.NoError(t, err)
	require.Equal(t, ranges, have)

	require.NoError(t, l.ipvs.SyncRanges(t.Context(), nil))
	require.Equal(t, before, nstest.Run(t, l.director, "/bin/sh", "-c", "ip route show table all; ip -6 route show table all; nft list ruleset"))

	mine := newClient(t, l.director, ipvs.Owns{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}})
	err = mine.SyncRanges(t.Context(), []ipvs.Range{ranges[1], {Prefix: netip.MustParsePrefix("10.96.0.0/17"), Source: ranges[1].Source},
		{Prefix: netip.MustParsePrefix("10.96.1.0/24"), Source: ranges[0].Source}, {}})
	require.ErrorIs(t, err, ipvs.ErrNotOwned)
	require.ErrorContains(t, err, "ranges[1].source: "+ranges[1].Source.String()+" is not an address of the prefix's family")
	require.ErrorContains(t, err, "ranges[2].prefix: 10.96.1.0/24 overlaps ranges[1], 10.96.0.0/17")
	require.ErrorContains(t, err, "ranges[3].prefix: no prefix")

	// Without a source the machine's own address towards others is taken; an address that the machine has is left as it is.
	all := newClient(t, l.director, ipvs.Everything())
	own := netip.PrefixFrom(ranges[0].Source, 32)
	require.NoError(t, all.SyncRanges(t.Context(), []ipvs.Range{{Prefix: ranges[0].Prefix}, {Prefix: ranges[1].Prefix}, {Prefix: own}}))
	have, err = all.Ranges(t.Context())
	require.NoError(t, err)
	require.Len(t, have, 2, "not %s", own)
	for i, r := range have {
		require.True(t, r.Source.IsValid(), r)
		require.Contains(t, nstest.Run(t, l.director, "ip", "-o", "address", "show", "scope", "global"), " "+r.Source.String()+"/")
		require.Equal(t, r.Source, nstest.Reaches(t, l.director, "tcp", vip(i == 1, 80)).Client.Addr())
	}
	require.NoError(t, all.SyncRanges(t.Context(), nil))
	err = mine.SyncRanges(t.Context(), []ipvs.Range{{Prefix: netip.MustParsePrefix("10.96.0.0/16"), Source: netip.MustParseAddr("192.0.2.99"), Open: true}})
	require.ErrorContains(t, err, "is 192.0.2.99 an address of this machine?")
}

// TestRangesInTurn: calls of one client do not get into each other's way.
func TestRangesInTurn(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	c := newClient(t, nstest.New(t), ipvs.Everything())
	want := []ipvs.Range{{Prefix: netip.MustParsePrefix("10.97.0.0/16")}, {Prefix: netip.MustParsePrefix("fd97::/64")}}
	var callers sync.WaitGroup
	for i := range 4 {
		callers.Go(func() {
			for range 4 {
				if err := c.SyncRanges(t.Context(), want[:2*(i%2)]); err != nil {
					t.Error(err)
				}
			}
		})
	}
	callers.Wait()
	require.NoError(t, c.SyncRanges(t.Context(), want))
	have, err := c.Ranges(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, have)
	require.NoError(t, c.SyncRanges(t.Context(), nil))
}
