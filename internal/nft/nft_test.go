package nft_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nft"
)

// sample uses every kind of statement.
func sample() *nft.Table {
	key := nft.Concat{nft.IPDaddr, nft.MetaL4Proto, nft.ThDport}
	marks := &nft.Set{Name: "marks", Key: key, Data: []nft.Expr{nft.MetaMark}, Comment: "where to"}
	hops := &nft.Set{Name: "hops", Verdict: true, Key: []nft.Expr{nft.MetaMark}}
	to := &nft.Set{Name: "to", Key: append(append([]nft.Expr{}, key...), nft.Random(16)), Data: []nft.Expr{nft.IPDaddr, nft.ThDport}}
	to6 := &nft.Set{Name: "to6", Key: []nft.Expr{nft.IP6Daddr, nft.ThDport}, Data: []nft.Expr{nft.IP6Daddr, nft.ThDport}}
	nets := &nft.Set{Name: "nets", Key: []nft.Expr{nft.IPSaddr}, Interval: true}
	pairs := &nft.Set{Name: "pairs", Key: []nft.Expr{nft.IPSaddr, nft.ThDport}, Interval: true}
	ports := &nft.Set{Name: "ports", Key: []nft.Expr{nft.MetaL4Proto}, Data: []nft.Expr{nft.ThDport}}
	pool := &nft.Set{Name: "pool", Key: []nft.Expr{nft.IPSaddr}, Interval: true, Data: []nft.Expr{nft.IPSaddr}, DataRange: true}
	pool6 := &nft.Set{Name: "pool6", Key: []nft.Expr{nft.IP6Saddr}, Interval: true, Data: []nft.Expr{nft.IP6Saddr, nft.ThSport}, DataRange: true}
	origin := &nft.Set{Name: "origin", Key: key}
	seen := &nft.Set{
		Name: "seen", Key: append([]nft.Expr{nft.IPSaddr}, key...), Data: []nft.Expr{nft.IPDaddr, nft.ThDport},
		Dynamic: true, Size: 1000,
	}
	rule := func(s ...nft.Stmt) nft.Rule { return nft.Rule{Stmts: s} }
	commented := rule(nft.PutMark{Value: nft.Mapped{Key: key, Map: marks}, Shift: 16})
	commented.Comment = "low bits stay"
	return &nft.Table{
		Family: nft.FamilyInet, Name: "sample", Comment: "a sample",
		Sets: []*nft.Set{marks, hops, to, to6, nets, pairs, origin, seen, ports, pool, pool6},
		Chains: []*nft.Chain{
			{Name: "pre", Hook: &nft.Hook{Type: "nat", Point: nft.Prerouting, Priority: -100}, Rules: []nft.Rule{
				rule(nft.In{Key: nft.IPSaddr, Set: nets}, nft.Verdict{Code: nft.Jump, Chain: "serve"}),
				rule(nft.In{Key: nft.Concat{nft.IPSaddr, nft.ThDport}, Set: pairs, Not: true}, nft.Verdict{Code: nft.Return}),
				rule(nft.DNAT{To: nft.Mapped{Key: nft.Concat{nft.IP6Daddr, nft.ThDport}, Map: to6}}),
			}},
			{Name: "redirect", Hook: &nft.Hook{Type: "nat", Point: nft.Output, Priority: -100}, Rules: []nft.Rule{
				rule(nft.Is{Field: nft.MetaL4Proto, Value: []byte{6}, Text: "tcp"}, nft.Bits{Field: nft.TCPFlags, Mask: 0x12, Value: 2, Not: true}, nft.Verdict{Code: nft.Return}),
				rule(nft.MaskedIs{Of: nft.Masked{Of: nft.MetaMark, Mask: 0xff}, Value: 1}, nft.Verdict{Code: nft.Return}),
				rule(nft.Is{Field: nft.MetaL4Proto, Value: []byte{6}, Text: "tcp"}, nft.Redirect{To: nft.Mapped{Key: nft.MetaL4Proto, Map: ports}}),
			}},
			{Name: "pools", Hook: &nft.Hook{Type: "nat", Point: nft.Postrouting, Priority: 90}, Rules: []nft.Rule{
				rule(nft.SNAT{From: nft.Mapped{Key: nft.IPSaddr, Map: pool}}),
				rule(nft.Is{Field: nft.MetaL4Proto, Value: []byte{6}, Text: "tcp"}, nft.SNAT{From: nft.Mapped{Key: nft.IP6Saddr, Map: pool6}, Random: true, Persistent: true}),
			}},
			{Name: "serve", Rules: []nft.Rule{
				rule(nft.ClearMark{Bits: 0xffff0000}), commented,
				rule(nft.VMap{Key: nft.Masked{Of: nft.MetaMark, Mask: 0xffff0000}, Map: hops}),
			}},
			{Name: "learn", Rules: []nft.Rule{rule(nft.Learn{
				Map: seen, Timeout: 3 * time.Hour,
				Key:  nft.Concat{nft.IPSaddr, nft.CTOrigDaddr4, nft.MetaL4Proto, nft.CTOrigProtoDst},
				Data: nft.Concat{nft.IPDaddr, nft.ThDport},
			})}},
			{Name: "lb", Rules: []nft.Rule{rule(nft.DNAT{To: nft.Mapped{Key: append(append(nft.Concat{}, key...), nft.Random(3)), Map: to}})}},
			{Name: "in", Hook: &nft.Hook{Type: "filter", Point: nft.Input}, Rules: []nft.Rule{
				rule(nft.Any{Field: nft.CTStateField, Bits: 6, Text: "established,related"}, nft.Verdict{Code: nft.Accept}),
				rule(nft.Is{Field: nft.FibDaddrType, Value: nft.AppendUint32(nil, 2), Text: "local", Not: true}, nft.Verdict{Code: nft.Drop}),
				rule(nft.Is{Field: nft.MetaL4Proto, Value: []byte{6}, Text: "tcp"}, nft.Reject{Reset: true}),
				rule(nft.Within{Field: nft.IP6Daddr, Prefix: netip.MustParsePrefix("fd00::/9")}, nft.Reject{}),
			}},
			{Name: "post", Hook: &nft.Hook{Type: "nat", Point: nft.Postrouting, Priority: 100}, Rules: []nft.Rule{
				rule(nft.In{Key: nft.Concat{nft.CTOrigDaddr4, nft.MetaL4Proto, nft.CTOrigProtoDst}, Set: origin}, nft.Masquerade{}),
			}},
		},
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	s := sample()
	text := s.String()
	for _, line := range []string{
		"table inet sample {\n\tcomment \"a sample\"\n",
		"\tmap marks {\n\t\ttypeof ip daddr . meta l4proto . th dport : meta mark\n\t\tcomment \"where to\"\n\t}\n",
		"\tset nets {\n\t\ttypeof ip saddr\n\t\tflags interval\n\t}\n",
		"\t\ttype nat hook prerouting priority -100;\n",
		"\t\tip saddr @nets jump serve\n",
		"\t\tip saddr . th dport != @pairs return\n",
		"\t\tmeta mark set meta mark & 0x0000ffff\n",
		"\t\tmeta mark set ip daddr . meta l4proto . th dport map @marks << 16 comment \"low bits stay\"\n",
		"\t\tmeta mark & 0xffff0000 vmap @hops\n",
		"\t\tdnat ip to ip daddr . meta l4proto . th dport . numgen random mod 3 map @to\n",
		"\t\tdnat ip6 to ip6 daddr . th dport map @to6\n",
		"\tmap seen {\n\t\ttypeof ip saddr . ip daddr . meta l4proto . th dport : ip daddr . th dport\n\t\tsize 1000\n\t\tflags dynamic,timeout\n",
		"\t\tupdate @seen { ip saddr . ct original ip daddr . meta l4proto . ct original proto-dst timeout 3h0m0s : ip daddr . th dport }\n",
		"\t\tmeta l4proto tcp tcp flags & 0x12 != 0x02 return\n",
		"\t\tmeta mark & 0x000000ff == 0x00000001 return\n",
		"\t\tmeta l4proto tcp redirect to :meta l4proto map @ports\n",
		"\t\tsnat ip to ip saddr map @pool\n",
		"\t\tmeta l4proto tcp snat ip6 to ip6 saddr map @pool6 fully-random,persistent\n",
		"\tmap pool6 {\n\t\ttypeof ip6 saddr : interval ip6 saddr . th sport\n",
		"\t\tfib daddr type != local drop\n",
		"\t\tmeta l4proto tcp reject with tcp reset\n",
		"\t\tip6 daddr fd00::/9 reject\n",
	} {
		require.Contains(t, text, line)
	}
	stamp := s.Stamp()
	require.Equal(t, stamp, sample().Stamp())
	s.Chains[1].Rules[1].Comment = "other"
	require.NotEqual(t, stamp, s.Stamp())
}

func TestRange(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"10.0.0.0/8":       "10.0.0.0 to 11.0.0.0",
		"10.244.3.0/24":    "10.244.3.0 to 10.244.4.0",
		"10.255.255.0/24":  "10.255.255.0 to 11.0.0.0",
		"10.0.0.7/32":      "10.0.0.7 to 10.0.0.8",
		"255.0.0.0/8":      "255.0.0.0",
		"0.0.0.0/0":        "0.0.0.0",
		"128.0.0.0/1":      "128.0.0.0",
		"fd00::/9":         "fd00:: to fd80::",
		"fd00::ffff/128":   "fd00::ffff to fd00::1:0",
		"ffff:ff00::/24":   "ffff:ff00::",
		"10.1.2.3/16":      "10.1.0.0 to 10.2.0.0",
		"255.255.255.0/25": "255.255.255.0 to 255.255.255.128",
	} {
		var got string
		for i, e := range nft.Range(netip.MustParsePrefix(prefix)) {
			a, ok := netip.AddrFromSlice(e.Key)
			require.True(t, ok)
			require.Equal(t, i == 1, e.End)
			if i == 1 {
				got += " to "
			}
			got += a.String()
		}
		require.Equal(t, want, got, prefix)
	}
}
