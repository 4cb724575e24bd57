package ipvs_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/podplumb/podplumb/ipvs"
)

// web is a service like Kubernetes' 10.96.0.10:80 with two pods behind it.
func web() ipvs.State {
	return ipvs.State{Services: []ipvs.Service{{
		Key:       ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddrPort("10.96.0.10:80")},
		Scheduler: ipvs.RoundRobin,
		Destinations: []ipvs.Destination{
			{Address: netip.MustParseAddrPort("10.244.1.2:8080"), Weight: 1},
			{Address: netip.MustParseAddrPort("10.244.2.2:8080"), Weight: 1},
		},
	}}}
}

func ExampleDiff() {
	want := web()
	want.Services[0].Destinations[0].Weight = 0
	want.Services[0].Persistence.Timeout = 5 * time.Minute
	fmt.Print(ipvs.Diff(web(), want))
	fmt.Print(ipvs.Diff(want, ipvs.State{}))
	// Output:
	// ~ service tcp 10.96.0.10:80: rr -> rr persistent 5m0s
	// ~ destination tcp 10.96.0.10:80 10.244.1.2:8080: masquerade weight 1 -> masquerade weight 0
	// - service tcp 10.96.0.10:80: with its destinations, 2
}

func ExampleState_Validate() {
	s := web()
	s.Services[0].Fallback = true
	s.Services[0].Destinations[1].Address = netip.MustParseAddrPort("[fd44::2]:8080")
	fmt.Println(s.Validate())
	// Output:
	// services[0].fallback: scheduler rr has no such flag
	// services[0].destinations[1].address: fd44::2 is of another family than the service, which only a tunnel can cross
}

func ExampleState() {
	text, err := json.Marshal(web().Services[0].Destinations[0])
	if err != nil {
		panic(err)
	}
	fmt.Println(string(text))
	// Output: {"address":"10.244.1.2:8080","weight":1}
}

// A director keeps its services, then takes one destination out without cutting connections.
func ExampleClient_Sync() {
	ctx := context.Background()
	c, err := ipvs.New(ipvs.Config{Owns: ipvs.Owns{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")}}})
	if err != nil {
		panic(err)
	}
	defer c.Close()
	want := web()
	plan, err := c.Sync(ctx, want)
	if err != nil {
		panic(err)
	}
	fmt.Print(plan)
	left, err := c.Drain(ctx, want.Services[0].Key, want.Services[0].Destinations[0].Address, time.Minute)
	if err != nil {
		panic(err)
	}
	fmt.Println("connections cut:", left)
}
