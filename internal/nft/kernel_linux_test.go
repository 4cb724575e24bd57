package nft_test

import (
	"context"
	"fmt"
	"io/fs"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func open(t testing.TB, ns *netns.NS) *nft.Conn {
	t.Helper()
	nstest.Require(t, nstest.NFTables)
	c, err := nft.Open(ns.Fd())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func set(t *nft.Table, name string) *nft.Set {
	for _, s := range t.Sets {
		if s.Name == name {
			return s
		}
	}
	panic("no set " + name)
}

func key(i int) []byte {
	b := nft.AppendAddr(nil, netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}))
	return nft.AppendPort(nft.AppendProto(b, 6), 80)
}

// Every kind of rule, set and element loads, and nft reads it.
func TestKernel(t *testing.T) {
	ns := nstest.New(t)
	c, table, ctx := open(t, ns), sample(), t.Context()
	_, err := c.Table(ctx, table.Family, table.Name)
	require.ErrorIs(t, err, fs.ErrNotExist)
	b := nft.NewBatch()
	require.True(t, b.Empty())
	b.AddTable(table)
	gotoLB := nft.Verdict{Code: nft.Goto, Chain: "lb"}
	b.AddElements(table, set(table, "marks"), []nft.Element{{Key: key(1), Data: nft.AppendUint32(nil, 3), Comment: "one of them", Extra: []byte{7, 8}}})
	b.AddElements(table, set(table, "hops"), []nft.Element{{Key: nft.AppendUint32(nil, 3<<16), Verdict: &gotoLB}})
	b.AddElements(table, set(table, "to"), []nft.Element{{
		Key:  nft.AppendUint32(key(1), 2),
		Data: nft.AppendPort(nft.AppendAddr(nil, netip.MustParseAddr("10.9.9.9")), 8080),
	}})
	b.AddElements(table, set(table, "nets"), nft.Range(netip.MustParsePrefix("10.1.0.0/16")))
	b.AddElements(table, set(table, "ports"), []nft.Element{{Key: nft.AppendProto(nil, 6)[:1], Data: nft.AppendPort(nil, 15001)[:2]}})
	pool := nft.Range(netip.MustParsePrefix("fd00::/16"))
	pool[0].Data = nft.AppendPort(nft.AppendAddr(nft.AppendPort(nft.AppendAddr(nil, netip.MustParseAddr("2001:db8::1")), 1000), netip.MustParseAddr("2001:db8::9")), 2000)
	b.AddElements(table, set(table, "pool6"), pool)
	b.AddElements(table, set(table, "pairs"), []nft.Element{{
		Key:    nft.AppendPort(nft.AppendAddr(nil, netip.MustParseAddr("10.1.0.0")), 1000),
		KeyEnd: nft.AppendPort(nft.AppendAddr(nil, netip.MustParseAddr("10.1.255.255")), 2000),
	}})
	require.NoError(t, c.Commit(ctx, b, 0))

	info, err := c.Table(ctx, table.Family, table.Name)
	require.NoError(t, err)
	require.Equal(t, nft.TableInfo{Stamp: table.Stamp(), Comment: "a sample"}, info)
	var got nft.Element
	require.NoError(t, c.Elements(ctx, table, set(table, "marks"), false, func() {}, func(e *nft.Element) {
		got = *e
		got.Key, got.Data, got.Extra = append([]byte{}, e.Key...), append([]byte{}, e.Data...), append([]byte{}, e.Extra...)
	}))
	require.Equal(t, nft.Element{Key: key(1), Data: nft.AppendUint32(nil, 3), Comment: "one of them", Extra: []byte{7, 8}}, got)
	require.ErrorIs(t, c.Elements(ctx, table, &nft.Set{Name: "none"}, false, func() {}, func(*nft.Element) {}), fs.ErrNotExist)

	list := nstest.Run(t, ns, "nft", "list", "ruleset")
	for _, s := range []string{
		"typeof ip daddr . meta l4proto . th dport : meta mark",
		`10.0.0.1 . tcp . 80 comment "one of them" : 0x00000003`,
		"10.0.0.1 . tcp . 80 . 2 : 10.9.9.9 . 8080", "0x00030000 : goto lb", "10.1.0.0/16 . 1000-2000",
		"meta mark set ip daddr . meta l4proto . th dport map @marks << 16", "masquerade fully-random",
		"tcp flags != syn / syn,ack return", "meta mark & 0x000000ff == 0x00000001 return", "redirect to :meta l4proto map @ports", "tcp : 15001",
		"snat ip to ip saddr map @pool", "snat ip6 to ip6 saddr map @pool6 fully-random,persistent", "fd00::/16 : 2001:db8::1-2001:db8::9 . 1000-2000",
		"ip6 daddr fd00::/9 reject", "ct state established,related accept", "fib daddr type != local drop",
	} {
		require.Contains(t, list, s)
	}
	nstest.Run(t, ns, "nft", "-j", "list", "ruleset")

	ok, err := c.Intact(ctx, table, nil)
	require.NoError(t, err)
	require.True(t, ok)
	for _, script := range []string{
		"add rule inet sample serve drop", "flush chain inet sample serve", "add chain inet sample more",
	} {
		nstest.Run(t, ns, "nft", script)
		ok, err = c.Intact(ctx, table, nil)
		require.NoError(t, err)
		require.False(t, ok, script)
	}
	b = nft.NewBatch()
	b.DelTable(table)
	require.NoError(t, c.Commit(ctx, b, 0))
	require.Empty(t, nstest.Run(t, ns, "nft", "list", "ruleset"))
}

func TestCompareAndCommit(t *testing.T) {
	ns := nstest.New(t)
	c, table, ctx := open(t, ns), sample(), t.Context()
	gen, err := c.Generation(ctx)
	require.NoError(t, err)
	b := nft.NewBatch()
	b.AddTable(table)
	require.NoError(t, c.Commit(ctx, b, gen))
	b = nft.NewBatch()
	b.DelTable(table)
	require.ErrorIs(t, c.Commit(ctx, b, gen), nft.ErrStale)
	_, err = c.Table(ctx, table.Family, table.Name)
	require.NoError(t, err, "nothing was done")
	next, err := c.Generation(ctx)
	require.NoError(t, err)
	require.Equal(t, gen+1, next, "each transaction adds one")

	// A batch that fails somewhere does nothing, and says where.
	b = nft.NewBatch()
	b.AddElements(table, set(table, "origin"), []nft.Element{{Key: key(1)}})
	b.DelElements(table, set(table, "origin"), []nft.Element{{Key: key(2)}})
	require.ErrorIs(t, c.Commit(ctx, b, 0), fs.ErrNotExist)
	n := 0
	require.NoError(t, c.Elements(ctx, table, set(table, "origin"), false, func() { n = 0 }, func(*nft.Element) { n++ }))
	require.Zero(t, n)
}

// Many elements arrive whole, more than fit one message or one receive
// buffer, while others keep changing the ruleset.
func TestManyElements(t *testing.T) {
	ns := nstest.New(t)
	c, table, ctx := open(t, ns), sample(), t.Context()
	const count = 20000
	b := nft.NewBatch()
	b.AddTable(table)
	var list []nft.Element
	for i := range count {
		list = append(list, nft.Element{Key: key(i), Comment: fmt.Sprint(i)})
	}
	b.AddElements(table, set(table, "origin"), list)
	if b.Len() > c.Limit() {
		require.ErrorIs(t, c.Commit(ctx, b, 0), nft.ErrTooBig)
		t.Skip("the send buffer is too small in this user namespace; that was the test")
	}
	require.NoError(t, c.Commit(ctx, b, 0))
	read := func(owned bool) (map[string]string, error) {
		got := map[string]string{}
		err := c.Elements(ctx, table, set(table, "origin"), owned, func() { clear(got) }, func(e *nft.Element) { got[string(e.Key)] = e.Comment })
		return got, err
	}
	check := func(got map[string]string) {
		require.Len(t, got, count)
		for i := range count {
			require.Equal(t, fmt.Sprint(i), got[string(key(i))])
		}
	}
	got, err := read(false)
	require.NoError(t, err)
	check(got)

	other, err := nft.Open(ns.Fd())
	require.NoError(t, err)
	defer other.Close()
	var stop atomic.Bool
	done, busy := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; !stop.Load(); i++ {
			b := nft.NewBatch()
			b.AddTable(&nft.Table{Family: nft.FamilyIPv4, Name: "other"})
			b.DelTable(&nft.Table{Family: nft.FamilyIPv4, Name: "other"})
			if err := other.Commit(context.Background(), b, 0); err != nil {
				t.Error(err)
			}
			if i == 0 {
				close(busy)
			}
			time.Sleep(100 * time.Microsecond)
		}
	}()
	<-busy
	_, err = read(false)
	require.ErrorIs(t, err, nft.ErrInterrupted)
	got, err = read(true)
	require.NoError(t, err)
	check(got)
	stop.Store(true)
	<-done
	got, err = read(false)
	require.NoError(t, err)
	check(got)
}

// A dump that is given up leaves the socket usable.
func TestDeadline(t *testing.T) {
	ns := nstest.New(t)
	c, table := open(t, ns), sample()
	b := nft.NewBatch()
	b.AddTable(table)
	var list []nft.Element
	for i := range 5000 {
		list = append(list, nft.Element{Key: key(i)})
	}
	b.AddElements(table, set(table, "origin"), list)
	if b.Len() > c.Limit() {
		t.Skip("the send buffer is too small in this user namespace")
	}
	require.NoError(t, c.Commit(t.Context(), b, 0))
	ctx, cancel := context.WithCancel(t.Context())
	err := c.Elements(ctx, table, set(table, "origin"), false, func() {}, func(*nft.Element) { cancel(); time.Sleep(time.Microsecond) })
	require.ErrorIs(t, err, context.Canceled)
	_, err = c.Generation(ctx)
	require.ErrorIs(t, err, context.Canceled)
	n := 0
	require.NoError(t, c.Elements(t.Context(), table, set(table, "origin"), false, func() { n = 0 }, func(*nft.Element) { n++ }))
	require.Equal(t, 5000, n)
}

func TestWatch(t *testing.T) {
	ns := nstest.New(t)
	c, table := open(t, ns), sample()
	w, err := nft.OpenWatch(ns.Fd(), table, c.PortID())
	require.NoError(t, err)
	defer w.Close()
	quiet := func() {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, w.Next(ctx), context.DeadlineExceeded)
	}
	b := nft.NewBatch()
	b.AddTable(table)
	require.NoError(t, c.Commit(t.Context(), b, 0))
	quiet() // our own
	nstest.Run(t, ns, "nft", "add table inet other; add table ip sample; add chain inet other a")
	quiet() // none of our business
	for _, script := range []string{
		"add element inet sample nets { 1.2.3.4 }", "add rule inet sample serve drop", "flush chain inet sample serve",
		"add chain inet sample more", "flush ruleset",
	} {
		nstest.Run(t, ns, "nft", script)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		require.NoError(t, w.Next(ctx), script)
		cancel()
		for quietYet := false; !quietYet; {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			quietYet = w.Next(ctx) != nil
			cancel()
		}
	}
}
