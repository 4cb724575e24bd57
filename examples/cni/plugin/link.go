package plugin

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

func openLinks(a *record.Attachment) (*veth.Client, error) {
	return veth.New(veth.Config{Owner: owner, Attachment: attachmentTag(a.Key, a.NetNS), ForceAddress: a.ForceAddress})
}

// connect makes the bridge and the pair, and returns the bridge's MAC address, if there is one. A bridge keeps IPv6 gateways of other
// networks beside this one's.
func connect(ctx context.Context, a *record.Attachment) (mac veth.MAC, err error) {
	if a.Chained {
		return mac, nil
	}
	c, err := openLinks(a)
	if err != nil {
		return mac, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	bridge := a.State.Pairs[0].Host.Bridge
	if err := wire(ctx, c, a); err != nil || bridge == "" {
		return mac, err
	}
	return c.MAC(ctx, bridge)
}

func wire(ctx context.Context, c *veth.Client, a *record.Attachment) error {
	for {
		_, err := c.Update(ctx, a.State)
		var extra *veth.AddressError
		var taken *veth.RouteError
		switch {
		case errors.As(err, &extra) && tolerate(&a.State, extra):
		case errors.As(err, &taken) && taken.NetNS != "" && yield(&a.State, taken):
		default:
			return err
		}
	}
}

// onBridge connects an attachment, and if the bridge turns out to be somebody else's, to that.
func onBridge(ctx context.Context, a *record.Attachment, connect func() error) error {
	err := connect()
	var foreign *veth.ForeignError
	if !errors.As(err, &foreign) || foreign.Kind != "bridge" || foreign.NetNS != "" || len(a.State.Bridges) == 0 || foreign.Name != a.State.Bridges[0].Name {
		return err
	}
	b := a.State.Bridges[0]
	a.Borrowed = links.Borrowed{Bridge: b.Name, Gateways: b.Addresses, Force: a.ForceAddress, Promisc: b.Promiscuous, Filtering: b.VLANFiltering, DAD: b.DAD}
	a.State.Bridges, a.Gateway.Bridges = nil, nil
	if err := a.Borrowed.Apply(ctx); err != nil {
		return err
	}
	return connect()
}

// yield leaves out a route of the container that another of its interfaces has already: of a container's networks, the first one has
// the default route.
func yield(s *veth.State, taken *veth.RouteError) bool {
	p := &s.Pairs[0].Pod
	before := len(p.Routes)
	p.Routes = slices.DeleteFunc(slices.Clone(p.Routes), func(r veth.Route) bool { return r.To == taken.Route.To })
	return len(p.Routes) < before
}

// tolerate adds the IPv6 addresses that a bridge has besides the wanted ones to them, if they are of other subnets.
func tolerate(s *veth.State, extra *veth.AddressError) bool {
	for i := range s.Bridges {
		b := &s.Bridges[i]
		if b.Name != extra.Bridge {
			continue
		}
		for _, have := range extra.Have {
			if have.Addr().Is4() || slices.ContainsFunc(b.Addresses, func(w netip.Prefix) bool { return w.Overlaps(have) }) {
				return false
			}
		}
		b.Addresses = append(slices.Clone(b.Addresses), extra.Have...)
	}
	return true
}
