package vxlan_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/vxlan"
)

// byHand makes the same overlay as the client does, with ip and bridge.
func byHand(t testing.TB, cluster *nstest.Cluster, n int) {
	t.Helper()
	self := cluster.Nodes[n]
	run := func(tool string, args ...any) {
		t.Helper()
		var words []string
		for _, a := range args {
			words = append(words, fmt.Sprint(a))
		}
		nstest.Run(t, self.NS, tool, words...)
	}
	run("ip", "link", "add", device, "mtu", 1450, "address", vxlan.MACFromKey(self.V4.Addr().String()), "type", "vxlan", "id", 42, "dstport", 4789, "local", self.V4.Addr(), "nolearning")
	run("ip", "link", "set", device, "up")
	run("ip", "addr", "add", netip.PrefixFrom(tunnel(self, false), 32), "dev", device)
	for m, other := range cluster.Nodes {
		if m == n {
			continue
		}
		mac := vxlan.MACFromKey(other.V4.Addr().String())
		run("bridge", "fdb", "add", mac, "dev", device, "dst", other.V4.Addr())
		run("ip", "neigh", "add", tunnel(other, false), "lladdr", mac, "dev", device, "nud", "permanent")
		run("ip", "route", "add", other.PodV4.Masked(), "via", tunnel(other, false), "dev", device, "onlink")
	}
}

// sink accepts connections inside ns and throws away what they bring, until the benchmark ends.
func sink(t testing.TB, ns *netns.NS, address string) netip.AddrPort {
	t.Helper()
	l, err := ns.Listen(context.Background(), "tcp", address)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(io.Discard, struct{ io.Reader }{c})
				_ = c.Close()
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// push sends for that long and returns the bytes each second.
func push(t testing.TB, from *netns.NS, to netip.AddrPort, d time.Duration) float64 {
	t.Helper()
	c, err := from.DialContext(context.Background(), "tcp", to.String())
	require.NoError(t, err)
	defer func() { _ = c.Close() }()
	buf, sent, start := make([]byte, 256<<10), 0, time.Now()
	for time.Since(start) < d {
		n, err := c.Write(buf)
		require.NoError(t, err)
		sent += n
	}
	return float64(sent) / time.Since(start).Seconds()
}

// BenchmarkThroughput sends a TCP stream from pod to pod through the client's overlay and through one made by hand, in turns.
func BenchmarkThroughput(b *testing.B) {
	ctx := kernel(b)
	ours, hand := nstest.NewCluster(b, 2, 1), nstest.NewCluster(b, 2, 1)
	for n, node := range ours.Nodes {
		sync(b, ctx, open(b, node.NS), overlay(ours, n, false))
		byHand(b, hand, n)
	}
	toOurs := sink(b, ours.Nodes[1].Pods[0].NS, netip.AddrPortFrom(ours.Nodes[1].Pods[0].V4.Addr(), 5001).String())
	toHand := sink(b, hand.Nodes[1].Pods[0].NS, netip.AddrPortFrom(hand.Nodes[1].Pods[0].V4.Addr(), 5001).String())
	const slice, pairs = 20 * time.Millisecond, 100
	rate := func(c *nstest.Cluster, to netip.AddrPort) float64 {
		return push(b, c.Nodes[0].Pods[0].NS, to, slice)
	}
	var ratios, rates []float64
	for b.Loop() {
		// The machine has better and worse moments, longer than a slice: only neighbours are compared, first in one order, then in the other.
		for pair := range pairs {
			var first, second float64
			if pair%2 == 0 {
				first = rate(ours, toOurs)
				second = rate(hand, toHand)
			} else {
				second = rate(hand, toHand)
				first = rate(ours, toOurs)
			}
			ratios, rates = append(ratios, first/second), append(rates, first)
		}
	}
	slices.Sort(ratios)
	slices.Sort(rates)
	b.ReportMetric(ratios[len(ratios)/2], "x-by-hand")
	b.ReportMetric(ratios[len(ratios)/4], "x-quartile-low")
	b.ReportMetric(ratios[len(ratios)*3/4], "x-quartile-high")
	b.ReportMetric(rates[len(rates)/2]/1e6*8, "Mbit/s")
}
