package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nft"
	"github.com/podplumb/podplumb/internal/rtnl"
)

const (
	// rangeProto marks the routes as this package's (rtm_protocol, rtnetlink(7)); numbers above 4 are free to use.
	rangeProto = 0x70
	loopback   = 1 // the index of lo in every namespace
	// guardPriority comes after IPVS, which takes its packets at 98 and 99 of the input hook (NF_IP_PRI_NAT_SRC - 2).
	guardPriority = 110
	guardTable    = "podplumb-ipvs"
)

func (c *Client) ranges(ctx context.Context) ([]Range, error) {
	routes, err := rtnl.Open(c.ns)
	if err != nil {
		return nil, opError("read", "ranges", err)
	}
	defer routes.Close()
	filter, err := nft.Open(c.ns.Fd())
	if err != nil {
		return nil, opError("read", "ranges", err)
	}
	defer filter.Close()
	out, err := c.readRanges(ctx, routes)
	if err != nil {
		return nil, opError("read", "ranges", err)
	}
	guarded, err := readGuard(ctx, filter)
	if err != nil {
		return nil, opError("read", "ranges", err)
	}
	for i := range out {
		out[i].Open = !guarded[out[i].Prefix.String()]
	}
	sortRanges(out)
	return out, nil
}

// readRanges reads the routes; whether a range is open they do not tell.
func (c *Client) readRanges(ctx context.Context, routes *rtnl.Conn) ([]Range, error) {
	list, err := routes.Routes(ctx, rtnl.RouteFilter{Table: unix.RT_TABLE_LOCAL, Proto: rangeProto})
	if err != nil {
		return nil, err
	}
	var out []Range
	for _, r := range list {
		if r.Type == unix.RTN_LOCAL && r.Index == loopback {
			out = append(out, Range{Prefix: r.Dst, Source: r.Src})
		}
	}
	return out, nil
}

func rangeRoute(r Range) rtnl.Route {
	return rtnl.Route{Dst: r.Prefix, Src: r.Source, Index: loopback, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL,
		Scope: unix.RT_SCOPE_HOST, Proto: rangeProto}
}

func (c *Client) syncRanges(ctx context.Context, want []Range) error {
	if err := c.owns.checkRanges(want); err != nil {
		return opError("sync", "ranges", err)
	}
	if err := c.take(ctx); err != nil {
		return opError("sync", "ranges", err)
	}
	defer c.give()
	want = slices.Clone(want)
	sortRanges(want)
	routes, err := rtnl.Open(c.ns)
	if err != nil {
		return opError("sync", "ranges", err)
	}
	defer routes.Close()
	filter, err := nft.Open(c.ns.Fd())
	if err != nil {
		return opError("sync", "ranges", err)
	}
	defer filter.Close()
	if want, err = resolveRanges(ctx, routes, want); err != nil {
		return opError("sync", "ranges", err)
	}
	// The guard is there before the first packet is, and goes after the last.
	have, err := c.readRanges(ctx, routes)
	if err != nil {
		return opError("sync", "ranges", err)
	}
	if err := c.dropRoutes(ctx, routes, have, want); err != nil {
		return err
	}
	if err := writeGuard(ctx, filter, want); err != nil {
		return opError("sync", "guard", err)
	}
	return c.addRoutes(ctx, routes, have, want)
}

func (c *Client) dropRoutes(ctx context.Context, routes *rtnl.Conn, have, want []Range) error {
	for _, h := range have {
		if slices.ContainsFunc(want, func(w Range) bool { return w.Prefix == h.Prefix && w.Source == h.Source }) {
			continue
		}
		if err := routes.DelRoute(ctx, rangeRoute(h)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return opError("remove", "range "+h.Prefix.String(), err)
		}
	}
	return nil
}

func (c *Client) addRoutes(ctx context.Context, routes *rtnl.Conn, have, want []Range) error {
	var faults []error
	for _, w := range want {
		if slices.ContainsFunc(have, func(h Range) bool { return w.Prefix == h.Prefix && w.Source == h.Source }) {
			continue
		}
		err := routes.AddRoute(ctx, rangeRoute(w))
		switch {
		case errors.Is(err, fs.ErrExist):
			err = fmt.Errorf("somebody else's local route is in the way: %w", err)
		case errors.Is(err, unix.EINVAL):
			err = fmt.Errorf("is %s an address of this machine? %w", w.Source, err)
		}
		if err != nil {
			faults = append(faults, opError("add", "range "+w.Prefix.String(), err))
		}
	}
	return errors.Join(faults...)
}

// guardSets are the same in every guard.
func guardSets() (v4, v6 *nft.Set) {
	return &nft.Set{Name: "ranges4", Key: []nft.Expr{nft.IPDaddr}, Interval: true},
		&nft.Set{Name: "ranges6", Key: []nft.Expr{nft.IP6Daddr}, Interval: true}
}

// guard is the table that refuses what no service takes, and the elements of its sets; no table when every range is open. The first
// element of a range has the prefix as its comment.
func guard(want []Range) (*nft.Table, map[*nft.Set][]nft.Element) {
	v4, v6 := guardSets()
	elements := map[*nft.Set][]nft.Element{}
	for _, r := range want {
		if r.Open {
			continue
		}
		set := v4
		if r.Prefix.Addr().Is6() {
			set = v6
		}
		ends := nft.Range(r.Prefix)
		ends[0].Comment = r.Prefix.String()
		elements[set] = append(elements[set], ends...)
	}
	if len(elements) == 0 {
		return nil, nil
	}
	chain := &nft.Chain{Name: "unserved", Hook: &nft.Hook{Type: "filter", Point: nft.Input, Priority: guardPriority}}
	for _, match := range []nft.In{{Key: nft.IPDaddr, Set: v4}, {Key: nft.IP6Daddr, Set: v6}} {
		for _, p := range []Protocol{TCP, UDP, SCTP} {
			chain.Rules = append(chain.Rules, nft.Rule{Stmts: []nft.Stmt{
				nft.Is{Field: nft.MetaL4Proto, Value: []byte{uint8(p)}, Text: p.String()}, match, nft.Reject{Reset: p == TCP},
			}})
		}
	}
	return &nft.Table{Family: nft.FamilyInet, Name: guardTable, Comment: "refuses ports of virtual addresses that have no service",
		Sets: []*nft.Set{v4, v6}, Chains: []*nft.Chain{chain}}, elements
}

// writeGuard replaces the table in one transaction, unless it is the wanted one.
func writeGuard(ctx context.Context, filter *nft.Conn, want []Range) error {
	table, elements := guard(want)
	for range syncTries {
		gen, err := filter.Generation(ctx)
		if err != nil {
			return err
		}
		info, err := filter.Table(ctx, nft.FamilyInet, guardTable)
		exists := err == nil
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if table == nil && !exists {
			return nil
		}
		if exists && table != nil && info.Stamp == table.Stamp() {
			if intact, err := guardIntact(ctx, filter, table, elements); intact || err != nil {
				return err
			}
		}
		b := nft.NewBatch()
		if exists {
			b.DelTable(&nft.Table{Family: nft.FamilyInet, Name: guardTable})
		}
		if table != nil {
			b.AddTable(table)
			for _, set := range table.Sets {
				if len(elements[set]) > 0 {
					b.AddElements(table, set, elements[set])
				}
			}
		}
		err = filter.Commit(ctx, b, gen)
		if !errors.Is(err, nft.ErrStale) {
			return err
		}
	}
	return nft.ErrStale
}

// guardIntact reports whether the kernel has the rules and exactly the ranges.
func guardIntact(ctx context.Context, filter *nft.Conn, table *nft.Table, elements map[*nft.Set][]nft.Element) (bool, error) {
	if intact, err := filter.Intact(ctx, table, nil); !intact || err != nil {
		return false, err
	}
	have, err := readGuard(ctx, filter)
	if err != nil {
		return false, err
	}
	count := 0
	for _, list := range elements {
		for _, e := range list {
			if e.Comment == "" {
				continue
			}
			if !have[e.Comment] {
				return false, nil
			}
			count++
		}
	}
	return count == len(have), nil
}

// readGuard returns the prefixes that the guard has.
func readGuard(ctx context.Context, filter *nft.Conn) (map[string]bool, error) {
	table := &nft.Table{Family: nft.FamilyInet, Name: guardTable}
	if _, err := filter.Table(ctx, table.Family, table.Name); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	out := map[string]bool{}
	v4, v6 := guardSets()
	for _, set := range []*nft.Set{v4, v6} {
		var found []string
		if err := filter.Elements(ctx, table, set, false, func() { found = nil }, func(e *nft.Element) {
			if e.Comment != "" {
				found = append(found, e.Comment)
			}
		}); err != nil {
			return nil, err
		}
		for _, p := range found {
			out[p] = true
		}
	}
	return out, nil
}
