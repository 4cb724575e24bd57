package bench_test

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// rounds is how often each command is measured on each side.
const rounds = 50

// comparison is one configuration, written for both sides; goals are the most that ours may take, as parts of what the stock plugins take.
type comparison struct {
	name             string
	stock, ours      string
	parallel         int // pods at a time
	hostPort         bool
	goalAdd, goalDel float64
}

const (
	v4   = `[{"subnet":"10.88.0.0/16"}]`
	v6   = `[{"subnet":"fd00:88::/64"}]`
	head = `{"cniVersion":"1.0.0","name":"bench","plugins":[{"bridge":"cni0","isGateway":true,`
)

func ipam(ranges ...string) string {
	return `"ipam":{"type":"host-local","dataDir":"DIR/host-local","ranges":[` + strings.Join(ranges, ",") + `],"routes":[{"dst":"0.0.0.0/0"}]}`
}

const (
	stock    = `"type":"bridge",`
	ours     = `"type":"podplumb-cni","dataDir":"DIR/podplumb",`
	masq     = `"ipMasq":true,`
	portmap  = `},{"type":"portmap","capabilities":{"portMappings":true}`
	portmaps = `"capabilities":{"portMappings":true},`
	tail     = `}]}`
)

func comparisons() []comparison {
	return []comparison{
		{
			name: "bridge + host-local", goalAdd: 0.55, goalDel: 1.0, parallel: 1,
			stock: head + stock + ipam(v4) + tail, ours: head + ours + ipam(v4) + tail,
		},
		{
			name: "bridge + ipMasq + portmap", goalAdd: 0.1, goalDel: 0.22, parallel: 1, hostPort: true,
			stock: head + stock + masq + ipam(v4) + portmap + tail, ours: head + ours + masq + portmaps + ipam(v4) + tail,
		},
		{
			name: "dual stack + ipMasq", goalAdd: 0.1, goalDel: 0.25, parallel: 1,
			stock: head + stock + masq + ipam(v4, v6) + tail, ours: head + ours + masq + ipam(v4, v6) + tail,
		},
		{
			name: "8-way parallel, masq + portmap", goalAdd: 0.1, goalDel: 0.2, parallel: 8, hostPort: true,
			stock: head + stock + masq + ipam(v4) + portmap + tail, ours: head + ours + masq + portmaps + ipam(v4) + tail,
		},
	}
}

// BenchmarkStock prints ADD and DEL of both sides, in milliseconds of medians, with their ratios and the processor time of one command.
func BenchmarkStock(b *testing.B) {
	kerneltest.RequireHost(b, "go", "iptables", "nft")
	if b.N > 1 {
		return // the rounds are counted here
	}
	fmt.Fprintf(os.Stdout, "\n%-32s %22s %22s %22s %22s\n", fmt.Sprintf("n = %d, medians, ms", rounds), "ADD stock / ours", "ratio (goal)", "DEL stock / ours", "ratio (goal)")
	for _, c := range comparisons() {
		r := c.run(b)
		add, del := ratio(r.add[1].wall, r.add[0].wall), ratio(r.del[1].wall, r.del[0].wall)
		fmt.Fprintf(os.Stdout, "%-32s %22s %22s %22s %22s\n", c.name,
			ms(r.add[0].wall)+" / "+ms(r.add[1].wall), fmt.Sprintf("%.2f (%.2f)%s", add, c.goalAdd, missed(add, c.goalAdd)),
			ms(r.del[0].wall)+" / "+ms(r.del[1].wall), fmt.Sprintf("%.2f (%.2f)%s", del, c.goalDel, missed(del, c.goalDel)))
		fmt.Fprintf(os.Stdout, "%-32s %22s %22s %22s\n", "  processor time of one",
			ms(r.add[0].cpu/time.Duration(c.parallel))+" / "+ms(r.add[1].cpu/time.Duration(c.parallel)), "(ours: 5 ms)",
			ms(r.del[0].cpu/time.Duration(c.parallel))+" / "+ms(r.del[1].cpu/time.Duration(c.parallel)))
		b.ReportMetric(add, "add-ratio:"+strings.ReplaceAll(c.name, " ", ""))
		b.ReportMetric(del, "del-ratio:"+strings.ReplaceAll(c.name, " ", ""))
	}
}

func missed(have, goal float64) string {
	if have > goal {
		return " MISSED"
	}
	return ""
}

// result holds the medians of the stock plugins and of ours.
type result struct{ add, del [2]cost }

func (c *comparison) run(b *testing.B) (r result) {
	sides := [2]*side{newSide(b, "stock", c.stock), newSide(b, "ours", c.ours)}
	var adds, dels [2][]cost
	for round := range rounds + 1 {
		for turn := range 2 {
			i := (round + turn) % 2 // neither is always first
			add, del := c.round(b, sides[i])
			if round > 0 { // the first makes what all pods share
				adds[i], dels[i] = append(adds[i], add), append(dels[i], del)
			}
		}
	}
	for i := range 2 {
		r.add[i], r.del[i] = median(adds[i]), median(dels[i])
	}
	return r
}

// round adds pods and removes them again, all at the same time.
func (c *comparison) round(b *testing.B, s *side) (add, del cost) {
	all := make([]*pod, c.parallel)
	for i := range all {
		if c.hostPort {
			all[i] = newPod(b, 20000+i)
		} else {
			all[i] = newPod(b)
		}
		defer all[i].close(b)
	}
	each := func(do func(testing.TB, *pod)) func() {
		return func() {
			var running sync.WaitGroup
			for _, p := range all[1:] {
				running.Go(func() { do(b, p) })
			}
			do(b, all[0])
			running.Wait()
		}
	}
	return s.measure(each(s.add)), s.measure(each(s.del))
}
