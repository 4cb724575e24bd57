package links

import (
	"context"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/nat"
)

// SourcesTo returns, for each family of the forwards' targets, the address that the node has towards the first of them, if it has a
// route there.
func SourcesTo(forwards []nat.Forward) (out []netip.Addr) {
	h, err := open(context.Background())
	if err != nil {
		return nil
	}
	defer h.Close()
	for _, f := range forwards {
		to := f.To[0].Addr
		if slices.ContainsFunc(out, func(a netip.Addr) bool { return a.Is4() == to.Is4() }) {
			continue
		}
		routes, err := h.RouteGet(to.AsSlice())
		if err != nil {
			continue
		}
		for _, r := range routes {
			if a, ok := netip.AddrFromSlice(r.Src); ok {
				out = append(out, a.Unmap())
				break
			}
		}
	}
	return out
}
