//go:build linux

package rtnl_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/internal/rtnl"
	"github.com/podplumb/podplumb/netns"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

func open(t testing.TB) (*rtnl.Conn, *netns.NS) {
	t.Helper()
	ns := nstest.New(t)
	c, err := rtnl.Open(ns)
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c, ns
}

func ptr[T any](v T) *T { return &v }

func TestVethIntoNamespace(t *testing.T) {
	c, _ := open(t)
	pod, podNS := open(t)
	ctx := t.Context()

	require.NoError(t, c.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: "br0", Up: ptr(true), Bridge: &rtnl.BridgeAttrs{McastSnooping: ptr(false), STP: ptr(uint32(0))}}))
	br, err := c.LinkByName(ctx, "br0")
	require.NoError(t, err)
	require.Equal(t, "bridge", br.Kind)
	require.True(t, br.Up())
	require.False(t, *br.Bridge.McastSnooping)

	peerMAC := rtnl.MAC{2, 0, 0, 0, 0, 9}
	require.NoError(t, c.AddLink(ctx, "veth", rtnl.LinkAttrs{
		Name: "v0", MTU: 1400, MAC: rtnl.MAC{2, 0, 0, 0, 0, 1}, Master: &br.Index, Up: ptr(true), Group: ptr(uint32(77)),
		Veth: &rtnl.LinkAttrs{Name: "eth0", MTU: 1400, MAC: peerMAC, NetNS: podNS.Fd()},
	}))
	v, err := c.LinkByName(ctx, "v0")
	require.NoError(t, err)
	require.Equal(t, br.Index, v.Master)
	require.Equal(t, uint32(77), v.Group)
	require.Equal(t, 1400, v.MTU)
	require.GreaterOrEqual(t, v.PeerNSID, 0)
	require.False(t, *v.Port.Hairpin)

	peer, err := pod.LinkByIndex(ctx, v.Peer)
	require.NoError(t, err)
	require.Equal(t, "eth0", peer.Name)
	require.Equal(t, peerMAC, peer.MAC)
	require.False(t, peer.Up())
	require.NoError(t, pod.SetLink(ctx, peer.Index, rtnl.LinkAttrs{Up: ptr(true), AddrGenMode: ptr(uint8(1))}))

	require.NoError(t, c.SetLink(ctx, v.Index, rtnl.LinkAttrs{Alias: ptr("mine"), Port: &rtnl.PortAttrs{Hairpin: ptr(true), Isolated: ptr(true)}}))
	v, err = c.LinkByIndex(ctx, v.Index)
	require.NoError(t, err)
	require.Equal(t, "mine", v.Alias)
	require.True(t, *v.Port.Hairpin)
	require.True(t, *v.Port.Isolated)

	links, err := c.Links(ctx)
	require.NoError(t, err)
	require.Len(t, links, 3)

	require.NoError(t, c.DelLinkGroup(ctx, 77))
	_, err = c.LinkByName(ctx, "v0")
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = pod.LinkByName(ctx, "eth0")
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorIs(t, c.DelLinkGroup(ctx, 77), fs.ErrNotExist)
	require.ErrorIs(t, c.DelLinkGroup(ctx, 0), unix.EINVAL)
}

func TestAddrRouteNeigh(t *testing.T) {
	c, _ := open(t)
	ctx := t.Context()
	require.NoError(t, c.AddLink(ctx, "veth", rtnl.LinkAttrs{Name: "a", Up: ptr(true), Veth: &rtnl.LinkAttrs{Name: "b"}}))
	a, err := c.LinkByName(ctx, "a")
	require.NoError(t, err)

	for _, p := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		prefix := netip.MustParsePrefix(p)
		addr := rtnl.Addr{Index: a.Index, Prefix: prefix, Flags: unix.IFA_F_NODAD}
		require.NoError(t, c.AddAddr(ctx, addr))
		require.ErrorIs(t, c.AddAddr(ctx, addr), fs.ErrExist)
		require.NoError(t, c.ReplaceAddr(ctx, addr))
	}
	addrs, err := c.Addrs(ctx, a.Index)
	require.NoError(t, err)
	var got []string
	for _, x := range addrs {
		got = append(got, x.Prefix.String())
	}
	require.Subset(t, got, []string{"192.0.2.1/24", "2001:db8::1/64"})

	routes := []rtnl.Route{
		{Dst: netip.MustParsePrefix("198.51.100.0/24"), Gateway: netip.MustParseAddr("192.0.2.2"), Index: a.Index, Proto: 201, MTU: 1300, Metric: 10},
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("203.0.113.9"), Index: a.Index, Proto: 201, OnLink: true},
		{Dst: netip.MustParsePrefix("198.51.101.0/24"), Gateway: netip.MustParseAddr("2001:db8::2"), Index: a.Index, Proto: 201},
		{Dst: netip.MustParsePrefix("2001:db8:1::/48"), Gateway: netip.MustParseAddr("2001:db8::2"), Index: a.Index, Proto: 201, Table: 1000, Metric: 5},
		{Dst: netip.MustParsePrefix("198.18.0.1/32"), Index: a.Index, Proto: 201, Scope: unix.RT_SCOPE_LINK, Src: netip.MustParseAddr("192.0.2.1")},
	}
	for _, r := range routes {
		require.NoError(t, c.AddRoute(ctx, r), r.Dst)
		require.ErrorIs(t, c.AddRoute(ctx, r), fs.ErrExist)
		require.NoError(t, c.ReplaceRoute(ctx, r))
	}
	have, err := c.Routes(ctx, rtnl.RouteFilter{Proto: 201})
	require.NoError(t, err)
	require.Len(t, have, len(routes))
	byDst := map[netip.Prefix]rtnl.Route{}
	for _, r := range have {
		byDst[r.Dst] = r
	}
	for _, want := range routes {
		r := byDst[want.Dst]
		require.Equal(t, want.Gateway, r.Gateway)
		require.Equal(t, want.MTU, r.MTU)
		require.Equal(t, want.Metric, r.Metric)
		require.Equal(t, want.OnLink, r.OnLink)
		require.Equal(t, want.Src, r.Src)
		if want.Table == 0 {
			want.Table = unix.RT_TABLE_MAIN
		}
		require.Equal(t, want.Table, r.Table)
	}
	empty, err := c.Routes(ctx, rtnl.RouteFilter{Table: 4242})
	require.NoError(t, err)
	require.Empty(t, empty)
	for _, r := range routes {
		require.NoError(t, c.DelRoute(ctx, r), r.Dst)
		require.ErrorIs(t, c.DelRoute(ctx, r), fs.ErrNotExist)
	}

	n := rtnl.Neigh{Index: a.Index, IP: netip.MustParseAddr("2001:db8::7"), MAC: rtnl.MAC{2, 1}, State: unix.NUD_PERMANENT}
	require.NoError(t, c.AddNeigh(ctx, n))
	require.ErrorIs(t, c.AddNeigh(ctx, n), fs.ErrExist)
	proxy := rtnl.Neigh{Index: a.Index, IP: netip.MustParseAddr("192.0.2.77"), Flags: unix.NTF_PROXY, State: unix.NUD_PERMANENT}
	require.NoError(t, c.ReplaceNeigh(ctx, proxy))
	neighs, err := c.Neighs(ctx, a.Index)
	require.NoError(t, err)
	var found bool
	for _, x := range neighs {
		found = found || x.IP == n.IP && x.MAC == n.MAC && x.State == n.State
	}
	require.True(t, found)
	proxies, err := c.Proxies(ctx, a.Index)
	require.NoError(t, err)
	require.Len(t, proxies, 1)
	require.Equal(t, proxy.IP, proxies[0].IP)
	require.NoError(t, c.DelNeigh(ctx, n))
	require.ErrorIs(t, c.DelNeigh(ctx, n), fs.ErrNotExist)
}

func TestVXLAN(t *testing.T) {
	c, _ := open(t)
	ctx := t.Context()
	for name, local := range map[string]string{"vx4": "192.0.2.1", "vx6": "2001:db8::1"} {
		require.NoError(t, c.AddLink(ctx, "vxlan", rtnl.LinkAttrs{Name: name, MTU: 1450, VXLAN: &rtnl.VXLANAttrs{
			ID: 42, Local: netip.MustParseAddr(local), Port: ptr(uint16(4789)), PortLow: ptr(uint16(1000)), PortHigh: ptr(uint16(2000)),
			Learning: ptr(false), GBP: true, UDPCsum: ptr(true), Csum6TxNo: ptr(true), Csum6RxNo: ptr(true), TTL: ptr(uint8(9)),
		}}), name)
		l, err := c.LinkByName(ctx, name)
		require.NoError(t, err)
		require.Equal(t, uint32(42), l.VXLAN.ID)
		require.Equal(t, local, l.VXLAN.Local.String())
		require.Equal(t, uint16(4789), *l.VXLAN.Port)
		require.Equal(t, uint16(1000), *l.VXLAN.PortLow)
		require.Equal(t, uint16(2000), *l.VXLAN.PortHigh)
		require.Equal(t, uint8(9), *l.VXLAN.TTL)
		require.False(t, *l.VXLAN.Learning)
		require.True(t, l.VXLAN.GBP)
		require.True(t, *l.VXLAN.Csum6TxNo)

		vtep := netip.MustParseAddr("192.0.2.9")
		if name == "vx6" {
			vtep = netip.MustParseAddr("2001:db8::9")
		}
		entry := rtnl.Neigh{Family: unix.AF_BRIDGE, Index: l.Index, MAC: rtnl.MAC{2, 5}, IP: vtep, State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF}
		require.NoError(t, c.ReplaceNeigh(ctx, entry))
		flood := entry
		flood.MAC = rtnl.MAC{}
		require.NoError(t, c.AppendNeigh(ctx, flood))
		fdb, err := c.FDB(ctx, l.Index)
		require.NoError(t, err)
		require.Len(t, fdb, 2)
		require.NoError(t, c.DelNeigh(ctx, flood))
		fdb, err = c.FDB(ctx, l.Index)
		require.NoError(t, err)
		require.Len(t, fdb, 1)
		require.Equal(t, vtep, fdb[0].IP)
		require.NoError(t, c.DelLink(ctx, l.Index))
	}
}

func TestErrorsTellTheKernelsWords(t *testing.T) {
	c, _ := open(t)
	ctx := t.Context()
	err := c.AddLink(ctx, "nosuchkind", rtnl.LinkAttrs{Name: "x"})
	require.ErrorIs(t, err, errors.ErrUnsupported)
	require.ErrorContains(t, err, "Unknown device type")
	_, err = c.LinkByName(ctx, "nosuch")
	require.ErrorIs(t, err, fs.ErrNotExist)
	err = c.AddRoute(ctx, rtnl.Route{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("198.51.100.1")})
	require.ErrorContains(t, err, "gateway")
	var e *rtnl.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, unix.ENETUNREACH, e.Errno)
}

func TestEventsAndWait(t *testing.T) {
	c, ns := open(t)
	m, err := rtnl.Watch(ns, rtnl.LinkEvents|rtnl.AddrEvents)
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()

	go func() {
		_ = c.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: "late", Up: ptr(true)})
	}()
	l, err := c.WaitLink(ctx, m, "late", (*rtnl.Link).Up)
	require.NoError(t, err)
	require.NoError(t, c.AddAddr(ctx, rtnl.Addr{Index: l.Index, Prefix: netip.MustParsePrefix("192.0.2.1/32")}))
	for {
		e, err := m.Next(ctx)
		require.NoError(t, err)
		if e.Addr != nil && e.Addr.Prefix.Addr().Is4() {
			require.Equal(t, "192.0.2.1/32", e.Addr.Prefix.String())
			break
		}
	}
	require.NoError(t, c.DelLink(ctx, l.Index))
	for {
		e, err := m.Next(ctx)
		require.NoError(t, err)
		if e.Link != nil && e.Removed {
			require.Equal(t, "late", e.Link.Name)
			break
		}
	}
	short, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	for err == nil {
		_, err = m.Next(short)
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestCancelledContextChangesNothing(t *testing.T) {
	c, _ := open(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("shutting down")
	cancel(reason)
	require.ErrorIs(t, c.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: "br0"}), reason)
	_, err := c.LinkByName(t.Context(), "br0")
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestClosedConn(t *testing.T) {
	c, _ := open(t)
	require.NoError(t, c.Close())
	_, err := c.Links(t.Context())
	require.ErrorIs(t, err, os.ErrClosed)
}

// A dump must be whole however many writers there are: every link that stays during the dump is in it.
func TestDumpUnderWriters(t *testing.T) {
	c, ns := open(t)
	ctx := t.Context()
	const stable = 60
	for i := range stable {
		require.NoError(t, c.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: "keep" + string(rune('A'+i/10)) + string(rune('0'+i%10))}))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	w, err := rtnl.Open(ns)
	require.NoError(t, err)
	defer func() { _ = w.Close() }()
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			_ = w.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: "churn"})
			if l, err := w.LinkByName(ctx, "churn"); err == nil {
				_ = w.DelLink(ctx, l.Index)
			}
		}
	})
	for range 50 {
		links, err := c.Links(ctx)
		require.NoError(t, err)
		seen := map[string]int{}
		for _, l := range links {
			seen[l.Name]++
		}
		for i := range stable {
			require.Equal(t, 1, seen["keep"+string(rune('A'+i/10))+string(rune('0'+i%10))])
		}
	}
	close(stop)
	wg.Wait()
}

func TestBridgeVLANs(t *testing.T) {
	nstest.Require(t, nstest.VLANFiltering)
	c, _ := open(t)
	ctx := t.Context()
	require.NoError(t, c.AddLink(ctx, "bridge", rtnl.LinkAttrs{Name: "br0", Bridge: &rtnl.BridgeAttrs{VLANFiltering: ptr(true), DefaultPVID: ptr(uint16(0))}}))
	br, err := c.LinkByName(ctx, "br0")
	require.NoError(t, err)
	require.True(t, *br.Bridge.VLANFiltering)
	require.NoError(t, c.AddLink(ctx, "veth", rtnl.LinkAttrs{Name: "v0", Master: &br.Index, Veth: &rtnl.LinkAttrs{Name: "p0"}}))
	v, err := c.LinkByName(ctx, "v0")
	require.NoError(t, err)

	require.NoError(t, c.AddVLAN(ctx, v.Index, rtnl.VLAN{ID: 10, PVID: true, Untagged: true}, false))
	require.NoError(t, c.AddVLANRange(ctx, v.Index, rtnl.VLAN{ID: 20}, 22, false))
	require.NoError(t, c.AddVLAN(ctx, br.Index, rtnl.VLAN{ID: 10}, true))
	vlans, err := c.VLANs(ctx)
	require.NoError(t, err)
	require.Equal(t, []rtnl.VLAN{{ID: 10, PVID: true, Untagged: true}, {ID: 20}, {ID: 21}, {ID: 22}}, vlans[v.Index])
	require.Equal(t, []rtnl.VLAN{{ID: 10}}, vlans[br.Index])

	require.NoError(t, c.DelVLAN(ctx, v.Index, 20, 21, false))
	vlans, err = c.VLANs(ctx)
	require.NoError(t, err)
	require.Equal(t, []rtnl.VLAN{{ID: 10, PVID: true, Untagged: true}, {ID: 22}}, vlans[v.Index])
}
