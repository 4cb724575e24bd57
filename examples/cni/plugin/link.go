package plugin

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

func openLinks(a *record.Attachment) (*veth.Client, error) {
	return veth.New(veth.Config{Owner: owner, Attachment: attachmentTag(a.Key, a.NetNS), ForceAddress: a.ForceAddress})
}

// connect makes the bridge and the pair. A bridge keeps IPv6 gateways of other networks beside this one's.
func connect(ctx context.Context, a *record.Attachment) (err error) {
	if a.Chained {
		return nil
	}
	c, err := openLinks(a)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	_, err = c.Sync(ctx, a.State)
	var extra *veth.AddressError
	if errors.As(err, &extra) && tolerate(&a.State, extra) {
		_, err = c.Sync(ctx, a.State)
	}
	return err
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
