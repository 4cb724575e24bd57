package rtnl_test

import (
	"context"
	"io/fs"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/internal/rtnl"
)

// TestBatch sends more than one datagram's worth of requests, every third of which is refused.
func TestBatch(t *testing.T) {
	a, _ := nstest.Pair(t)
	ctx := t.Context()
	c, err := rtnl.Open(a.NS)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	l, err := c.LinkByName(ctx, a.Link)
	require.NoError(t, err)
	neigh := func(n int) rtnl.Neigh {
		return rtnl.Neigh{Index: l.Index, IP: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}), MAC: rtnl.MAC{2, 0, 0, 0, 0, byte(n)}, State: unix.NUD_PERMANENT}
	}
	send := func(b *rtnl.Batch) map[int]error {
		refused := map[int]error{}
		require.NoError(t, c.Send(ctx, b, func(i int, err error) { refused[i] = err }))
		return refused
	}
	var b rtnl.Batch
	require.Empty(t, send(&b), "nothing is sent for nothing")
	for n := range 80 {
		b.AddNeigh(neigh(100 + n))
		b.ReplaceNeigh(neigh(100 + n))
		b.AddNeigh(neigh(100 + n)) // exists by now: the order is kept
	}
	require.Equal(t, 240, b.Len())
	refused := send(&b)
	require.Len(t, refused, 80)
	for i, err := range refused {
		require.Equal(t, 2, i%3)
		require.ErrorIs(t, err, fs.ErrExist)
	}
	neighs, err := c.Neighs(ctx, l.Index)
	require.NoError(t, err)
	permanent := 0
	for _, n := range neighs {
		if n.State == unix.NUD_PERMANENT {
			permanent++
		}
	}
	require.Equal(t, 80, permanent)

	route := rtnl.Route{Dst: netip.MustParsePrefix("10.9.0.0/16"), Gateway: netip.MustParseAddr("192.0.2.2"), Proto: 112}
	b = rtnl.Batch{}
	b.AddRoute(route)
	b.AddRoute(route)
	b.ReplaceRoute(route)
	b.DelRoute(route)
	b.DelRoute(route)
	for n := range 80 {
		b.DelNeigh(neigh(100 + n))
	}
	b.DelNeigh(neigh(99)) // the last one is refused, and acknowledged by that
	refused = send(&b)
	require.Len(t, refused, 3)
	require.ErrorIs(t, refused[1], fs.ErrExist)
	require.ErrorIs(t, refused[4], fs.ErrNotExist)
	require.ErrorIs(t, refused[85], fs.ErrNotExist)

	// The socket is in step: an ordinary call gets its own answer.
	_, err = c.LinkByName(ctx, a.Link)
	require.NoError(t, err)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, c.Send(ended, &b, func(int, error) {}), context.Canceled)
}
