//go:build linux

package ipvs_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// openOn opens a flow that lands on the server.
func (l *lab) openOn(t *testing.T, to netip.AddrPort, server string) *nstest.Flow {
	t.Helper()
	for range 10 {
		f, err := nstest.Dial(t, l.client, "tcp", to)
		require.NoError(t, err)
		a, err := f.Ask()
		require.NoError(t, err)
		if a.Server == server {
			return f
		}
		require.NoError(t, f.Close())
	}
	require.Fail(t, "no flow to "+server)
	return nil
}

// TestDrain: new connections go elsewhere at once, the old one lives until it ends by itself, then the destination goes.
func TestDrain(t *testing.T) {
	l := newLab(t, 2)
	families(t, func(t *testing.T, v6 bool) {
		s := l.service(v6, ipvs.TCP, ipvs.RoundRobin)
		l.sync(t)
		l.sync(t, s)
		flow := l.openOn(t, vip(v6, 80), "a")
		done := make(chan error, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		var left uint32
		go func() {
			var err error
			left, err = l.ipvs.Drain(ctx, s.Key, s.Destinations[0].Address, time.Second)
			done <- err
		}()
		require.Eventually(t, func() bool {
			have, err := l.ipvs.Read(ctx)
			return err == nil && len(have.Services[0].Destinations) == 2 && have.Services[0].Destinations[0].Weight == 0
		}, 5*time.Second, 10*time.Millisecond)
		require.Equal(t, map[string]int{"b": 4}, l.spread(t, "tcp", vip(v6, 80), 4))
		a, err := flow.Ask()
		require.NoError(t, err)
		require.Equal(t, "a", a.Server, "the old connection works on")
		require.NoError(t, <-done)
		require.Positive(t, left)
		have, err := l.ipvs.Read(ctx)
		require.NoError(t, err)
		require.Equal(t, s.Destinations[1:], have.Services[0].Destinations)

		// Without connections there is nothing to wait for.
		idle := ipvs.Destination{Address: netip.AddrPortFrom(l.pods[0].Addr(v6), 9999)}
		s.Destinations = []ipvs.Destination{idle, s.Destinations[1]}
		l.sync(t, s)
		start := time.Now()
		left, err = l.ipvs.Drain(ctx, s.Key, idle.Address, time.Minute)
		require.NoError(t, err)
		require.Zero(t, left)
		require.Less(t, time.Since(start), 20*time.Second)
		require.Equal(t, map[string]int{"b": 2}, l.spread(t, "tcp", vip(v6, 80), 2))
	})
}

func TestDrainErrors(t *testing.T) {
	l := newLab(t, 2)
	s := l.service(false, ipvs.TCP, ipvs.RoundRobin)
	_, err := l.ipvs.Drain(t.Context(), s.Key, s.Destinations[0].Address, time.Second)
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "ipvs: drain tcp 10.96.0.10:80 -> ")
	l.sync(t, s)
	_, err = l.ipvs.Drain(t.Context(), s.Key, vip(false, 1), time.Second)
	require.ErrorIs(t, err, fs.ErrNotExist)

	l.openOn(t, vip(false, 80), "a")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	left, err := l.ipvs.Drain(ctx, s.Key, s.Destinations[0].Address, time.Minute)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Positive(t, left)
	have, err := l.ipvs.Read(t.Context())
	require.NoError(t, err)
	require.Zero(t, have.Services[0].Destinations[0].Weight, "it stays drained")

	done := make(chan error, 1)
	go func() {
		_, err := l.ipvs.Drain(context.Background(), s.Key, s.Destinations[0].Address, time.Minute)
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	l.sync(t, s)
	require.ErrorIs(t, <-done, ipvs.ErrStale, "somebody wants the destination back")
	requireIPVSADM(t, l.director, ipvs.State{Services: []ipvs.Service{s}})

	go func() {
		_, err := l.ipvs.Drain(context.Background(), s.Key, s.Destinations[0].Address, time.Minute)
		done <- err
	}()
	time.Sleep(100 * time.Millisecond)
	l.sync(t)
	require.NoError(t, <-done, "it is gone, with its service")
}

// TestExpireNodest: without the switch a flow whose destination was removed hangs, with it it is reset. It also shows the table of connections.
func TestExpireNodest(t *testing.T) {
	l := newLab(t, 2)
	families(t, func(t *testing.T, v6 bool) {
		for _, expire := range []bool{false, true} {
			settings := ipvs.Recommended()
			settings.ExpireNodest = expire
			require.NoError(t, l.ipvs.SetSysctls(settings))
			s := l.service(v6, ipvs.TCP, ipvs.RoundRobin)
			l.sync(t)
			l.sync(t, s)
			flow := l.openOn(t, vip(v6, 80), "a")
			table, err := l.ipvs.Connections(t.Context())
			require.NoError(t, err)
			client := netip.MustParseAddrPort(flow.LocalAddr().String())
			i := slices.IndexFunc(table, func(c ipvs.Connection) bool { return c.Client == client })
			require.GreaterOrEqual(t, i, 0, table)
			require.Equal(t, ipvs.Connection{Protocol: ipvs.TCP, Client: client, Virtual: vip(v6, 80), Destination: s.Destinations[0].Address,
				State: "ESTABLISHED", Expires: table[i].Expires}, table[i])
			require.Contains(t, strings.Join(strings.Fields(nstest.Run(t, l.director, "ipvsadm", "-Lcn")), " "),
				fmt.Sprintf("ESTABLISHED %s %s %s", client, vip(v6, 80), s.Destinations[0].Address))

			s.Destinations = s.Destinations[1:]
			l.sync(t, s)
			_, err = flow.AskBriefly()
			require.Error(t, err)
			if expire {
				require.ErrorContains(t, err, "reset by peer")
			} else {
				require.ErrorContains(t, err, "timeout")
			}
		}
	})
}

func TestSettings(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	have, err := c.Timeouts(t.Context())
	require.NoError(t, err)
	require.Equal(t, ipvs.Timeouts{TCP: 15 * time.Minute, TCPFin: 2 * time.Minute, UDP: 5 * time.Minute}, have)
	require.NoError(t, c.SetTimeouts(t.Context(), ipvs.Timeouts{TCP: time.Hour, UDP: 7 * time.Second}))
	have, err = c.Timeouts(t.Context())
	require.NoError(t, err)
	require.Equal(t, ipvs.Timeouts{TCP: time.Hour, TCPFin: 2 * time.Minute, UDP: 7 * time.Second}, have)
	require.Contains(t, nstest.Run(t, ns, "ipvsadm", "-L", "--timeout"), "3600 120 7")
	require.ErrorContains(t, c.SetTimeouts(t.Context(), ipvs.Timeouts{TCP: -time.Second, UDP: time.Millisecond}),
		"ipvs: change timeouts: timeouts[0]: -1s is not whole seconds up to 1193h2m47s\ntimeouts[2]: 1ms")

	settings, err := c.Sysctls()
	require.NoError(t, err)
	require.Equal(t, ipvs.Sysctls{ConnReuseMode: 1}, settings)
	for _, want := range []ipvs.Sysctls{ipvs.Recommended(), {SloppyTCP: true, ConnReuseMode: 2}, {ConnReuseMode: 1}} {
		require.NoError(t, c.SetSysctls(want))
		settings, err = c.Sysctls()
		require.NoError(t, err)
		require.Equal(t, want, settings)
	}
	require.ErrorContains(t, c.SetSysctls(ipvs.Sysctls{ConnReuseMode: 3}), "3 is not 0, 1 or 2")
}

func TestDaemons(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	a, _ := nstest.Pair(t)
	c := newClient(t, a.NS, ipvs.Everything())
	have, err := c.Daemons(t.Context())
	require.NoError(t, err)
	require.Empty(t, have)
	master := ipvs.Daemon{Role: ipvs.Master, Interface: a.Link, SyncID: 7, Port: 9000, TTL: 3, MaxLen: 1000, Group: netip.MustParseAddr("239.1.1.1")}
	backup := ipvs.Daemon{Role: ipvs.Backup, Interface: a.Link, SyncID: 8, Group: netip.MustParseAddr("ff02::81")}
	require.NoError(t, c.StartDaemon(t.Context(), master))
	require.NoError(t, c.StartDaemon(t.Context(), backup))
	have, err = c.Daemons(t.Context())
	require.NoError(t, err)
	require.Len(t, have, 2)
	require.Equal(t, master, have[0])
	backup.Port, backup.TTL, backup.MaxLen = 8848, 1, have[1].MaxLen
	require.Equal(t, backup, have[1])
	shown := nstest.Run(t, a.NS, "ipvsadm", "-Ln", "--daemon")
	require.Contains(t, shown, "master sync daemon (mcast="+a.Link+", syncid=7, maxlen=1000, group=239.1.1.1, port=9000, ttl=3)")
	require.Contains(t, shown, "group=ff02::81")

	require.ErrorIs(t, c.StartDaemon(t.Context(), master), fs.ErrExist)
	require.NoError(t, c.StopDaemon(t.Context(), ipvs.Master))
	require.ErrorIs(t, c.StopDaemon(t.Context(), ipvs.Master), fs.ErrNotExist)
	err = c.StartDaemon(t.Context(), ipvs.Daemon{Role: ipvs.Master, Interface: "none0"})
	require.ErrorContains(t, err, "ipvs: add master daemon: no interface none0")
	require.NoError(t, c.StopDaemon(t.Context(), ipvs.Backup))
	err = c.StartDaemon(t.Context(), ipvs.Daemon{Role: 3, Group: netip.MustParseAddr("10.0.0.1")})
	require.ErrorContains(t, err, ".role: 3 is neither master nor backup")
	require.ErrorContains(t, err, `.interface: "" is not a name`)
	require.ErrorContains(t, err, ".group: 10.0.0.1 is not a multicast address")
}

// TestFailover: a flow goes on through another director that was told of it by the daemons.
func TestFailover(t *testing.T) {
	l := newDirectLab(t)
	spare := l.servers[1]
	other := newClient(t, spare.NS, ipvs.Everything())
	for _, v6 := range []bool{false, true} { // the second server becomes the second director
		host := netip.PrefixFrom(vip(v6, 80).Addr(), vip(v6, 80).Addr().BitLen()).String()
		nstest.Run(t, spare.NS, "ip", "address", "del", host, "dev", "lo")
		nstest.Run(t, spare.NS, "ip", "route", "add", "local", host, "dev", "lo")
	}
	require.NoError(t, l.director.NS.SetSysctl("net.ipv4.vs.sync_threshold", "1 2"))
	require.NoError(t, l.ipvs.StartDaemon(t.Context(), ipvs.Daemon{Role: ipvs.Master, Interface: "eth0", SyncID: 1}))
	require.NoError(t, other.StartDaemon(t.Context(), ipvs.Daemon{Role: ipvs.Backup, Interface: "eth0", SyncID: 1}))
	families(t, func(t *testing.T, v6 bool) {
		state := ipvs.State{Services: []ipvs.Service{{Key: ipvs.Key{Protocol: ipvs.TCP, Address: vip(v6, 80)}, Scheduler: ipvs.RoundRobin,
			Destinations: l.destinations(v6, v6, ipvs.Direct, ipvs.Tunnel{})[:1]}}}
		for _, c := range []*ipvs.Client{l.ipvs, other} {
			_, err := c.Sync(t.Context(), state)
			require.NoError(t, err)
		}
		flow, err := nstest.Dial(t, l.clientNS, "tcp", vip(v6, 80))
		require.NoError(t, err)
		client := netip.MustParseAddrPort(flow.LocalAddr().String())
		require.Eventually(t, func() bool {
			_, err := flow.Ask()
			require.NoError(t, err)
			table, err := other.Connections(t.Context())
			require.NoError(t, err)
			return slices.ContainsFunc(table, func(c ipvs.Connection) bool {
				return c.Client == client && c.State == "ESTABLISHED" && c.Destination == state.Services[0].Destinations[0].Address
			})
		}, 20*time.Second, 100*time.Millisecond)
		stats, err := other.Stats(t.Context())
		require.NoError(t, err)
		require.Zero(t, stats[0].InPackets)

		host := netip.PrefixFrom(vip(v6, 80).Addr(), vip(v6, 80).Addr().BitLen()).String()
		nstest.Run(t, l.clientNS, "ip", "route", "replace", host, "via", spare.Addr(v6).String())
		_, err = l.ipvs.Sync(t.Context(), ipvs.State{})
		require.NoError(t, err)
		a, err := flow.Ask()
		require.NoError(t, err)
		require.Equal(t, "a", a.Server)
		require.Eventually(t, func() bool {
			stats, err := other.Stats(t.Context())
			return err == nil && stats[0].InPackets > 0
		}, 10*time.Second, 100*time.Millisecond, "the packets went through the second director")
	})
	require.NoError(t, l.ipvs.StopDaemon(t.Context(), ipvs.Master))
	require.NoError(t, other.StopDaemon(t.Context(), ipvs.Backup))
}
