package layout

import "net/netip"

// allocator hands out the addresses of a network from the lowest up, leaving out those that are taken, the network's own
// address and, in IPv4, the broadcast address.
type allocator struct {
	network netip.Prefix
	taken   map[netip.Addr]string // address to owner
	cursor  netip.Addr
}

func (a *allocator) next(owner string) (netip.Addr, bool) {
	if !a.cursor.IsValid() {
		a.cursor = a.network.Addr()
	}
	for a.cursor = a.cursor.Next(); a.usable(a.cursor); a.cursor = a.cursor.Next() {
		if _, ok := a.taken[a.cursor]; !ok {
			a.taken[a.cursor] = owner
			return a.cursor, true
		}
	}
	return netip.Addr{}, false
}

// router hands out the highest free address among the first 254.
func (a *allocator) router() netip.Addr {
	var best netip.Addr
	addr := a.network.Addr()
	for range 254 {
		addr = addr.Next()
		if _, ok := a.taken[addr]; !ok && a.usable(addr) {
			best = addr
		}
	}
	a.taken[best] = "the router"
	return best
}

func (a *allocator) usable(addr netip.Addr) bool {
	return a.network.Contains(addr) && addr != a.network.Addr() && (addr.Is6() || a.network.Contains(addr.Next()))
}
