package bench_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	store "github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// flatGoal is how much more an ADD may take with many others than with none.
const flatGoal = 1.2

// BenchmarkFlat compares an ADD on an empty node with one among 20,000 leases, and among 2,000 host ports of others.
func BenchmarkFlat(b *testing.B) {
	kerneltest.RequireHost(b, "go")
	if b.N > 1 {
		return
	}
	leases := comparisons()[0]
	compareFlat(b, "20,000 leases", &leases, func(s *side) { lease(b, s, 20000) })
	ports := comparisons()[1]
	compareFlat(b, "2,000 host ports", &ports, func(s *side) {
		for first := 0; first < 2000; first += 500 {
			hostPorts := make([]int, 500)
			for i := range hostPorts {
				hostPorts[i] = 30000 + first + i
			}
			p := newPod(b, hostPorts...)
			b.Cleanup(func() {
				s.del(b, p)
				p.close(b)
			})
			s.add(b, p)
		}
	})
}

// lease hands out addresses of the network to owners that have no other trace.
func lease(b testing.TB, s *side, count int) {
	b.Helper()
	open, err := store.Open(context.Background(), filepath.Join(s.dir, "podplumb", "bench", "leases"))
	require.NoError(b, err)
	r, err := store.Range{Subnet: netip.MustParsePrefix("10.88.0.0/16")}.Canonical()
	require.NoError(b, err)
	for i := range count {
		_, err := open.Allocate(store.Owner{ContainerID: fmt.Sprintf("other-%d", i), IfName: "eth0"}, []store.Set{{r}})
		require.NoError(b, err)
	}
	require.NoError(b, open.Close())
}

func compareFlat(b *testing.B, name string, c *comparison, fill func(*side)) {
	sides := [2]*side{newSide(b, "empty", c.ours), newSide(b, "full", c.ours)}
	for _, s := range sides {
		c.round(b, s)
	}
	fill(sides[1])
	var adds, dels [2][]cost
	for round := range rounds {
		for turn := range 2 {
			i := (round + turn) % 2
			add, del := c.round(b, sides[i])
			adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
		}
	}
	add, del := [2]cost{median(adds[0]), median(adds[1])}, [2]cost{median(dels[0]), median(dels[1])}
	more := ratio(add[1].wall, add[0].wall)
	fmt.Fprintf(os.Stdout, "\n%-32s %22s %22s %22s\n", "0 -> "+name, "ADD "+ms(add[0].wall)+" -> "+ms(add[1].wall),
		fmt.Sprintf("%.2f (%.2f)%s", more, flatGoal, missed(more, flatGoal)), fmt.Sprintf("DEL %s -> %s, %.2f", ms(del[0].wall), ms(del[1].wall), ratio(del[1].wall, del[0].wall)))
	b.ReportMetric(more, "flat:"+strings.ReplaceAll(name, " ", ""))
}

// BenchmarkGC compares the GC of 100 pods whose runtime has forgotten them with what the kernel alone takes to remove the same links in one request.
func BenchmarkGC(b *testing.B) {
	kerneltest.RequireHost(b, "go")
	if b.N > 1 {
		return
	}
	const stale, times = 100, 9
	c := comparisons()[1]
	ours := newSide(b, "ours", `{"cniVersion":"1.1.0"`+c.ours[len(`{"cniVersion":"1.0.0"`):])
	bare := newSide(b, "floor", c.ours)
	// With the results of the ADDs in its cache, libcni would call DEL for each before GC.
	forgotten := libcni.NewCNIConfigWithCacheDir([]string{programs(b)}, b.TempDir(), ours)
	var gc, floor []cost
	for range times {
		var all []*pod
		for i := range stale {
			p := newPod(b, 20000+i)
			all = append(all, p)
			ours.add(b, p)
		}
		gc = append(gc, ours.measure(func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			require.NoError(b, forgotten.GCNetworkList(ctx, ours.list, nil))
		}))
		floor = append(floor, links(b, bare, all))
		for _, p := range all {
			p.close(b)
		}
	}
	g, f := median(gc), median(floor)
	over := ratio(g.wall, f.wall)
	fmt.Fprintf(os.Stdout, "\n%-32s %22s %22s\n", fmt.Sprintf("GC of %d pods, n = %d", stale, times), ms(f.wall)+" floor, "+ms(g.wall)+" ours", fmt.Sprintf("%.2f (1.50)%s", over, missed(over, 1.5)))
	b.ReportMetric(over, "gc/floor")
}

// links has the plugin make the same links in another node and takes the time of one request that removes them all.
func links(b testing.TB, s *side, all []*pod) (c cost) {
	b.Helper()
	const group = 7777
	for _, p := range all {
		s.add(b, p)
	}
	var handle *netlink.Handle
	require.NoError(b, s.node.Do(func() (err error) {
		handle, err = netlink.NewHandle(unix.NETLINK_ROUTE)
		return err
	}))
	defer handle.Close()
	list, err := handle.LinkList()
	require.NoError(b, err)
	n := 0
	for _, l := range list {
		if l.Type() == "veth" {
			require.NoError(b, handle.LinkSetGroup(l, group))
			n++
		}
	}
	require.Equal(b, len(all), n)
	require.NoError(b, s.node.Do(func() error {
		request := nl.NewNetlinkRequest(unix.RTM_DELLINK, unix.NLM_F_ACK)
		request.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
		request.AddData(nl.NewRtAttr(unix.IFLA_GROUP, nl.Uint32Attr(group)))
		begin := time.Now()
		_, err := request.Execute(unix.NETLINK_ROUTE, 0)
		c.wall = time.Since(begin)
		return err
	}))
	for _, p := range all {
		s.del(b, p)
	}
	return c
}
