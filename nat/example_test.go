package nat_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/podplumb/podplumb/nat"
)

func ExampleDiff() {
	web := nat.Forward{
		Name: "default/web", Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Proto: nat.TCP,
		To: []nat.Target{
			{Addr: netip.MustParseAddr("10.244.0.10"), Port: 8080},
			{Addr: netip.MustParseAddr("10.244.1.11"), Port: 8080, Weight: 3},
		},
	}
	have := nat.State{Forwards: []nat.Forward{web}}
	web.To = web.To[1:]
	want := nat.State{
		Networks: []nat.Network{{Prefix: netip.MustParsePrefix("10.244.0.0/24")}},
		Exclude:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		Forwards: []nat.Forward{web},
	}
	fmt.Print(nat.Diff(have, want))
	// Output:
	// + network 10.244.0.0/24
	// + exclude 10.244.0.0/16
	// ~ forward 10.96.0.10:80/tcp: to -10.244.0.10:8080 ~10.244.1.11:8080 (weight 1)
}

func ExampleExplain() {
	s := nat.State{Forwards: []nat.Forward{{
		Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Proto: nat.TCP,
		To: []nat.Target{
			{Addr: netip.MustParseAddr("10.244.0.10"), Port: 8080},
			{Addr: netip.MustParseAddr("10.244.1.11"), Port: 8080, Weight: 3},
		},
	}}}
	fmt.Print(nat.Explain(s, nat.Packet{
		Src: netip.MustParseAddrPort("10.244.0.10:40000"), Dst: netip.MustParseAddrPort("10.96.0.10:80"), Proto: nat.TCP,
	}))
	// Output:
	// forwarded by forward 10.96.0.10:80/tcp
	//    25.0% 10.244.0.10:8080 masqueraded
	//    75.0% 10.244.1.11:8080
}

func Example() {
	ctx := context.Background()
	client, err := nat.New(nat.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	web := nat.Forward{
		Addr: netip.MustParseAddr("10.96.0.10"), Port: 80, Proto: nat.TCP,
		To: []nat.Target{{Addr: netip.MustParseAddr("10.244.0.10"), Port: 8080}},
	}
	plan, err := client.Sync(ctx, nat.State{
		Networks: []nat.Network{{Prefix: netip.MustParsePrefix("10.244.0.0/24"), Name: "pods of this node"}},
		Exclude:  []netip.Prefix{netip.MustParsePrefix("10.244.0.0/16")},
		Forwards: []nat.Forward{web},
	})
	fmt.Print(plan, err)
	// Later: one forward changes, whatever else there is.
	web.To = append(web.To, nat.Target{Addr: netip.MustParseAddr("10.244.0.11"), Port: 8080})
	plan, err = client.Update(ctx, nat.Change{Set: []nat.Forward{web}})
	fmt.Print(plan, err)
}
