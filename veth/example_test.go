package veth_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/veth"
)

// wanted is a bridge with a gateway address of each family and one pod behind it.
func wanted() veth.State {
	return veth.State{
		Bridges: []veth.Bridge{{
			Name:      "cni0",
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24"), netip.MustParsePrefix("fd01::1/64")},
		}},
		Pairs: []veth.Pair{{
			Host: veth.Host{Name: "web0", Bridge: "cni0"},
			Pod: veth.Pod{
				NetNS:     "/run/netns/web",
				Name:      "eth0",
				Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.11/24"), netip.MustParsePrefix("fd01::11/64")},
				Routes:    []veth.Route{veth.DefaultVia(netip.MustParseAddr("10.1.0.1")), veth.DefaultVia(netip.MustParseAddr("fd01::1"))},
			},
		}},
	}
}

// A plan can be read before anything is done.
func ExampleDiff() {
	have := wanted()
	want := wanted()
	want.Bridges[0].MTU = 1450
	want.Pairs[0].Host.Port.Hairpin = true
	want.Pairs[0].Pod.Routes = want.Pairs[0].Pod.Routes[:1]
	fmt.Print(veth.Diff(have, want))
	// Output:
	// ~ bridge cni0: mtu 1500 -> 1450
	// ~ pair web0 host: hairpin off -> on
	// - pair web0 pod route default6
}

// Validate names every fault at once.
func ExampleState_Validate() {
	s := wanted()
	s.Pairs[0].Host.MTU = 1000
	s.Pairs[0].Pod.Routes[0].Via = netip.MustParseAddr("10.3.0.1")
	fmt.Println(s.Validate())
	// Output:
	// pairs[0].host.mtu: 1000 is below 1280, the least that IPv6 needs (RFC 8200)
	// pairs[0].pod.routes[0].via: 10.3.0.1 is outside every subnet of the link (list a route to it, or set onlink)
}

// The three calls of a container plugin. Each runs in a process of its own, and knows the attachment by its name.
func Example_plugin() {
	ctx := context.Background()
	open := func() (*veth.Client, error) {
		return veth.New(veth.Config{Owner: "mynet", Attachment: "0123abcd/eth0"})
	}
	add := func(want veth.State) error {
		c, err := open()
		if err != nil {
			return err
		}
		_, err = c.Sync(ctx, want)
		return errors.Join(err, c.Close())
	}
	check := func(want veth.State) error {
		c, err := open()
		if err != nil {
			return err
		}
		p, err := c.Plan(ctx, want)
		if err == nil && !p.Empty() {
			err = fmt.Errorf("the attachment is damaged:\n%s", p)
		}
		return errors.Join(err, c.Close())
	}
	del := func() error { return add(veth.State{}) }
	_, _, _ = add, check, del
}
