package nft_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/nstest"
)

// A rule makes counters for keys that share fields with what it looked at before, whatever it did in between; nft reads all of it.
func TestCounted(t *testing.T) {
	ns := nstest.New(t)
	c, ctx := open(t, ns), t.Context()
	nstest.Run(t, ns, "ip", "link", "set", "lo", "up")
	id := func(s string) nft.Address { return nft.Address{Addr: netip.MustParseAddr(s)} }
	const bits = 0xffff0000
	for family, field := range map[string]nft.Load{"127.0.0.1": nft.IPSaddr, "::1": nft.IP6Saddr} {
		from := netip.MustParseAddr(family)
		nets := &nft.Set{Name: "nets", Key: []nft.Expr{nft.IP6Saddr, field, nft.MetaL4Proto, nft.ThDport}}
		netCounts := &nft.Set{Name: "net-counts", Key: nets.Key, Counted: true}
		numbers := &nft.Set{Name: "numbers", Key: []nft.Expr{nft.IP6Saddr, nft.MetaL4Proto, nft.ThDport}, Data: []nft.Expr{nft.MetaMark}}
		members := &nft.Set{Name: "members", Key: []nft.Expr{nft.MetaMark, field}}
		counts := &nft.Set{Name: "counts", Key: numbers.Key, Counted: true}
		near := nft.Prefixed{Of: field, Bits: 20}
		clearMark := nft.ClearMark{Bits: bits}
		table := &nft.Table{Family: nft.FamilyInet, Name: "counted", Sets: []*nft.Set{nets, netCounts, numbers, members, counts}, Chains: []*nft.Chain{{
			Name: "out", Hook: &nft.Hook{Type: "filter", Point: nft.Output}, Rules: []nft.Rule{
				{Stmts: []nft.Stmt{
					nft.In{Key: nft.Concat{id("1::1"), near, nft.MetaL4Proto, nft.ThDport}, Set: nets}, clearMark,
					nft.CountFor{Key: nft.Concat{id("1::2"), near, nft.MetaL4Proto, nft.ThDport}, Set: netCounts},
				}},
				{Stmts: []nft.Stmt{
					nft.PutMark{Value: nft.Mapped{Key: nft.Concat{id("1::3"), nft.MetaL4Proto, nft.ThDport}, Map: numbers}, Shift: 16},
					nft.In{Key: nft.Concat{nft.Masked{Of: nft.MetaMark, Mask: bits}, field}, Set: members}, clearMark,
					nft.CountFor{Key: nft.Concat{id("1::4"), nft.MetaL4Proto, nft.ThDport}, Set: counts},
				}},
				{Stmts: []nft.Stmt{nft.Any{Field: nft.MetaMark, Bits: bits}, nft.Verdict{Code: nft.Drop}}},
			},
		}}}
		key := func(id nft.Address, addr ...netip.Addr) []byte {
			b := id.AsSlice()
			for _, a := range addr {
				b = nft.AppendAddr(b, a)
			}
			return nft.AppendPort(nft.AppendProto(b, 17), 4000)
		}
		net := netip.PrefixFrom(from, near.Bits).Masked().Addr()
		b := nft.NewBatch()
		b.AddTable(table)
		b.AddElements(table, nets, []nft.Element{{Key: key(id("1::1"), net)}})
		b.AddElements(table, numbers, []nft.Element{{Key: key(id("1::3")), Data: nft.AppendUint32(nil, 7)}})
		b.AddElements(table, members, []nft.Element{{Key: nft.AppendAddr(nft.AppendUint32(nil, 7<<16), from)}})
		require.NoError(t, c.Commit(ctx, b, 0))
		conn, err := ns.DialContext(ctx, "udp", netip.AddrPortFrom(from, 4000).String())
		require.NoError(t, err)
		for range 3 {
			_, _ = conn.Write([]byte("x")) // nobody listens
		}
		require.NoError(t, conn.Close())
		for _, want := range []struct {
			set *nft.Set
			key []byte
		}{{netCounts, key(id("1::2"), net)}, {counts, key(id("1::4"))}} {
			var got []nft.Element
			require.NoError(t, c.Elements(ctx, table, want.set, false, func() { got = nil }, func(e *nft.Element) {
				got = append(got, nft.Element{Key: append([]byte(nil), e.Key...), Packets: e.Packets, Bytes: e.Bytes})
			}))
			require.Len(t, got, 1, want.set.Name)
			require.Equal(t, want.key, got[0].Key, want.set.Name)
			require.NotZero(t, got[0].Packets)
			require.NotZero(t, got[0].Bytes)
		}
		nstest.Run(t, ns, "nft", "list", "ruleset")
		b = nft.NewBatch()
		b.DelTable(table)
		require.NoError(t, c.Commit(ctx, b, 0))
	}
}
