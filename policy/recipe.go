package policy

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// recipe is what the chain of a profile is made of: all that is asked of the packets of a pod in one direction and family.
type recipe struct {
	d, f     int
	shared   bool         // the pod shares its address
	own      []netip.Addr // of the node of a pod that shares its address, sorted; of others they are in a set
	admin    []*rules     // in the order in which they are asked, as the others
	network  []*rules
	baseline []*rules
	ports    map[namedPort]uint16 // of a pod that shares its address; else nil
}

// recipeKey tells recipes apart without making anything of them.
type recipeKey string

// recipe collects the policies that are for a pod.
func (w *world) recipe(p *pod, d, f int) recipe {
	r := recipe{d: d, f: f}
	for _, m := range p.matched {
		for policy := range m.subjects {
			switch {
			case !policy.applies(d):
			case policy.network != nil:
				r.network = append(r.network, policy)
			case policy.cluster.Spec.Tier == Admin:
				r.admin = append(r.admin, policy)
			case policy.cluster.Spec.Tier == Baseline:
				r.baseline = append(r.baseline, policy)
			}
		}
	}
	slices.SortFunc(r.network, func(a, b *rules) int { return cmp.Compare(a.key.name.Name, b.key.name.Name) })
	for _, list := range [][]*rules{r.admin, r.baseline} {
		slices.SortFunc(list, func(a, b *rules) int { return compareClusterPolicies(a.cluster, b.cluster) })
	}
	return r
}

// open says that no policy is for the pod.
func (r *recipe) open() bool { return len(r.admin)+len(r.network)+len(r.baseline) == 0 }

func (r *recipe) key() recipeKey {
	var space [128]byte
	b := append(space[:0], byte('0'+r.d), byte('0'+r.f))
	for _, list := range [...][]*rules{r.admin, r.network, r.baseline} {
		b = append(b, '|')
		for _, p := range list {
			b = append(strconv.AppendUint(b, p.revision, 10), ' ')
		}
	}
	if r.shared {
		b = fmt.Appendf(b, "|%v|%v", r.own, r.ports) // maps are printed sorted
	}
	return recipeKey(b)
}

// ownAddrs returns the addresses of the pod's node in a family, sorted.
func (w *world) ownAddrs(p *pod, f int) []netip.Addr {
	var list []netip.Addr
	note := func(a netip.Addr) {
		if addrFamily(a) == f {
			list = append(list, a)
		}
	}
	for _, text := range append([]HostIP{{p.Status.HostIP}}, p.Status.HostIPs...) {
		if a, err := netip.ParseAddr(text.IP); err == nil {
			note(a.Unmap())
		}
	}
	if n := w.nodes[p.Spec.NodeName]; n != nil {
		for _, a := range n.addrs {
			note(a)
		}
	}
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list)
}
