package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
)

// costFile is the picture in the README.
const costFile = "cost.svg"

// costs is what one number of Services takes, in processor time of this process, its children and the kernel for them.
type costs struct {
	services               int
	flatLoad, peerLoad     time.Duration // all of them, into an empty namespace
	flatChange, peerChange time.Duration // one endpoint of one of them, median
}

// BenchmarkCost compares the flat table with a chain and an anonymous map for each Service, as kube-proxy's nftables mode has
// them, at several numbers of Services with three endpoints each, and draws what it finds into cost.svg.
func BenchmarkCost(b *testing.B) {
	kerneltest.Require(b)
	if _, err := exec.LookPath("nft"); err != nil {
		b.Skip("needs nft")
	}
	for b.Loop() {
		var all []costs
		for _, n := range []int{100, 300, 1000, 3000, 10000} {
			all = append(all, measure(b, n))
		}
		last := all[len(all)-1]
		b.ReportMetric(float64(last.peerLoad)/float64(last.flatLoad), "peer/ours-load-10k")
		b.ReportMetric(float64(last.peerChange)/float64(last.flatChange), "peer/ours-change-10k")
		b.ReportMetric(float64(last.flatChange)/float64(all[2].flatChange), "change-10k/1k")
		require.NoError(b, os.WriteFile(costFile, []byte(plot(all)), 0o644))
	}
}

func measure(b *testing.B, n int) costs {
	c := costs{services: n}
	ctx := context.Background()

	flat := newNS(b)
	client, err := nat.New(nat.Config{NetNS: flat})
	require.NoError(b, err)
	defer client.Close()
	p, err := service.New(service.Config{Node: service.Node{Meta: service.Meta{Name: nodeName}}, Backend: service.NAT(client)})
	require.NoError(b, err)
	state := many(n)
	c.flatLoad = cpu(b, func() {
		_, err := p.Sync(ctx, state)
		require.NoError(b, err)
	})
	const tries = 41
	c.flatChange = median(tries, func(i int) time.Duration {
		s := state.EndpointSlices[i*n/tries]
		s.Endpoints = s.Endpoints[:2]
		return cpu(b, func() {
			_, err := p.Update(ctx, service.Changes{EndpointSlices: []service.EndpointSlice{s}})
			require.NoError(b, err)
		})
	})

	peer := newNS(b)
	file := filepath.Join(b.TempDir(), "peer.nft")
	load := func(text string) time.Duration {
		require.NoError(b, os.WriteFile(file, []byte(text), 0o600))
		return cpu(b, func() { nft(b, peer, "-f", file) })
	}
	c.peerLoad = load(chains(state))
	c.peerChange = median(5, func(i int) time.Duration {
		at := i * n / 5
		return load(fmt.Sprintf("flush chain ip peer service-%d\n%s", at, chainRules(at, state.Services[at], state.EndpointSlices[at].Endpoints[:2])))
	})
	return c
}

// many is n Services with three endpoints each.
func many(n int) service.State {
	s := service.State{PodRanges: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")}}
	port := int32(8080)
	for i := range n {
		name := fmt.Sprintf("web-%d", i)
		s.Services = append(s.Services, service.Service{Meta: service.Meta{Namespace: "default", Name: name}, Spec: service.Spec{
			ClusterIP: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}).String(), Ports: []service.Port{{Port: 80}},
		}})
		slice := service.EndpointSlice{
			Meta:        service.Meta{Namespace: "default", Name: name, Labels: map[string]string{service.LabelServiceName: name}},
			AddressType: service.AddressIPv4, Ports: []service.SlicePort{{Port: &port}},
		}
		for e := range 3 {
			k := i*4 + e
			slice.Endpoints = append(slice.Endpoints, service.SliceEndpoint{Addresses: []string{netip.AddrFrom4([4]byte{10, 128 + byte(k>>16), byte(k >> 8), byte(k)}).String()}})
		}
		s.EndpointSlices = append(s.EndpointSlices, slice)
	}
	return s
}

// chains is the ruleset of the peer: a chain with an anonymous map for each Service, a chain for each endpoint, and a map
// that leads into them.
func chains(s service.State) string {
	var first, rules, elements strings.Builder
	for i, svc := range s.Services {
		fmt.Fprintf(&first, "add chain ip peer service-%d\n", i)
		for j, e := range s.EndpointSlices[i].Endpoints {
			fmt.Fprintf(&first, "add chain ip peer endpoint-%d-%d\n", i, j)
			fmt.Fprintf(&rules, "add rule ip peer endpoint-%d-%d ip saddr %s jump mark-for-masquerade\n", i, j, e.Addresses[0])
			fmt.Fprintf(&rules, "add rule ip peer endpoint-%d-%d meta l4proto tcp dnat to %s:8080\n", i, j, e.Addresses[0])
		}
		rules.WriteString(chainRules(i, svc, s.EndpointSlices[i].Endpoints))
		fmt.Fprintf(&elements, "add element ip peer service-ips { %s . tcp . 80 : goto service-%d }\n", svc.Spec.ClusterIP, i)
	}
	return `add table ip peer
add chain ip peer mark-for-masquerade
add rule ip peer mark-for-masquerade meta mark set meta mark or 0x4000
add map ip peer service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
add chain ip peer prerouting { type nat hook prerouting priority dstnat; }
add rule ip peer prerouting ip daddr . meta l4proto . th dport vmap @service-ips
` + first.String() + rules.String() + elements.String()
}

// chainRules fills the chain of a Service.
func chainRules(i int, svc service.Service, endpoints []service.SliceEndpoint) string {
	var hops []string
	for j := range endpoints {
		hops = append(hops, fmt.Sprintf("%d : goto endpoint-%d-%d", j, i, j))
	}
	return fmt.Sprintf("add rule ip peer service-%d ip daddr %s tcp dport 80 ip saddr != 10.128.0.0/9 jump mark-for-masquerade\n"+
		"add rule ip peer service-%d numgen random mod %d vmap { %s }\n", i, svc.Spec.ClusterIP, i, len(hops), strings.Join(hops, ", "))
}

func nft(t testing.TB, ns *netns.NS, args ...string) {
	var out strings.Builder
	cmd := exec.Command("nft", args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	require.NoError(t, ns.Start(cmd))
	require.NoError(t, cmd.Wait(), out.String())
}

// cpu is the processor time of f.
func cpu(t testing.TB, f func()) time.Duration {
	used := func() (sum time.Duration) {
		for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
			var u unix.Rusage
			require.NoError(t, unix.Getrusage(who, &u))
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
		return sum
	}
	before := used()
	f()
	return used() - before
}

func median(n int, f func(i int) time.Duration) time.Duration {
	list := make([]time.Duration, n)
	for i := range list {
		list[i] = f(i)
	}
	slices.Sort(list)
	return list[n/2]
}
