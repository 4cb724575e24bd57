// Command quickstart joins a node and a pod with a bridge and sends an HTTP request across.
package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"

	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

func main() {
	ctx := context.Background()
	node, pod := must(netns.New()), must(netns.Create("quickstart-pod"))
	defer netns.Remove(pod.Name())

	links := must(veth.New(veth.Config{NetNS: node}))
	plan := must(links.Sync(ctx, veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.1/24")}}},
		Pairs: []veth.Pair{{
			Host: veth.Host{Name: "web", Bridge: "cni0"},
			Pod:  veth.Pod{NetNS: pod.Path(), Name: "eth0", Addresses: []netip.Prefix{netip.MustParsePrefix("10.1.0.2/24")}},
		}},
	}))
	fmt.Print(plan) // one change a line

	go http.Serve(must(pod.Listen(ctx, "tcp", "10.1.0.2:80")), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello", r.RemoteAddr[:8])
	}))
	client := http.Client{Transport: &http.Transport{DialContext: node.DialContext}} // dials inside the node
	fmt.Print(string(must(io.ReadAll(must(client.Get("http://10.1.0.2")).Body))))
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // and so the deferred Remove runs
	}
	return v
}
