package links

import (
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/nat"
)

// SourcesTo returns, for each family of the forwards' targets, the address of the node that it has towards the first of them.
func SourcesTo(ctx context.Context, forwards []nat.Forward) (out []netip.Addr, err error) {
	h, err := open(ctx)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	for _, f := range forwards {
		to := f.To[0].Addr
		if slices.ContainsFunc(out, func(a netip.Addr) bool { return a.Is4() == to.Is4() }) {
			continue
		}
		routes, err := h.RouteGet(to.AsSlice())
		if err != nil {
			return nil, fmt.Errorf("find the node's address towards %s: %w", to, err)
		}
		for _, r := range routes {
			if a, ok := netip.AddrFromSlice(r.Src); ok {
				out = append(out, a.Unmap())
				break
			}
		}
	}
	return out, nil
}
