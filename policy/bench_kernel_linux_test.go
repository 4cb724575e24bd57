package policy_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/policy"
)

// BenchmarkUpdate reports the median from event to return, for one pod of 10,000 whose labels or address change, with 5,000 policies and
// with only those of its namespace, on a node with a hundred of the pods and on one with all.
func BenchmarkUpdate(b *testing.B) {
	needs(b)
	for _, node := range []string{"node0", ""} {
		for _, kind := range []string{"label", "address", "peer"} {
			b.Run(fmt.Sprintf("node=%s/%s", node, kind), func(b *testing.B) {
				medians := map[int]time.Duration{}
				var used time.Duration // with 5,000 policies, for 200 changes and what they cut
				for _, policies := range []int{25, 5000} {
					state := large(10000, 5000)
					pod := state.Pods[7]
					if kind == "peer" {
						pod = state.Pods[9007]
					}
					if policies < 5000 { // those of its own namespace, without the unrelated ones
						state.Policies = lacking(state.Policies, func(p policy.NetworkPolicy) bool { return p.Meta.Namespace != pod.Meta.Namespace })
					}
					c := client(b, nstest.New(b), func(c *policy.Config) { c.Node = node })
					_, err := c.Sync(context.Background(), state)
					require.NoError(b, err)
					var took []time.Duration
					before := cpu(b)
					for i := range 200 {
						p := pod
						if kind == "address" {
							p.Status.PodIPs = []policy.PodIP{{IP: netip.AddrFrom4([4]byte{10, 200, 0, byte(i%100 + 1)}).String()}}
						} else {
							p.Meta.Labels = map[string]string{"app": fmt.Sprintf("a%d", i%10), "env": "prod"}
						}
						start := time.Now()
						if _, err := c.Update(context.Background(), policy.Change{Set: policy.State{Pods: []policy.Pod{p}}}); err != nil {
							b.Fatal(err)
						}
						took = append(took, time.Since(start))
					}
					medians[policies] = median(took)
					require.NoError(b, c.Close())
					if policies == 5000 {
						used = cpu(b) - before
					}
				}
				for b.Loop() {
				}
				b.ReportMetric(float64(medians[5000])/1e3, "p50-us")
				b.ReportMetric(float64(used)/200e3, "cpu-us")
				b.ReportMetric(float64(medians[5000])/float64(medians[25]), "all/related")
			})
		}
	}
}

// BenchmarkFirst compares the processor time of the first Sync of 1,000 profiles of ten rules each, from the State to the last commit,
// with that of nft loading the same policies from text: a chain for each pod, a rule for each rule. The peer counts in named counters,
// which outlive the rules, as the Client's do, and plain-peer in the rules, which lose their counts when they are replaced.
func BenchmarkFirst(b *testing.B) {
	needs(b)
	nstest.Require(b, nstest.Tool("nft"))
	for _, kind := range []string{"networks", "pods"} {
		b.Run(kind, func(b *testing.B) {
			state := profiles(1000, 10)
			if kind == "pods" {
				selecting(&state)
			}
			file := func(name string, named bool) string {
				path := filepath.Join(b.TempDir(), name)
				require.NoError(b, os.WriteFile(path, []byte(chainForEachPod(state, named)), 0o600))
				return path
			}
			withNames, without := file("named.nft", true), file("plain.nft", false)
			load := func(file string) time.Duration {
				ns := nstest.New(b)
				before := cpu(b)
				nstest.Run(b, ns, "nft", "-f", file)
				return cpu(b) - before
			}
			peer, plain, ours := time.Hour, time.Hour, time.Hour
			for b.Loop() {
				for range 5 { // in turns, so that all meet the same noise
					peer, plain = min(peer, load(withNames)), min(plain, load(without))
					c := client(b, nstest.New(b), func(c *policy.Config) { c.Node = "node0" })
					runtime.GC()
					before := cpu(b)
					_, err := c.Sync(context.Background(), state)
					require.NoError(b, err)
					ours = min(ours, cpu(b)-before)
					require.NoError(b, c.Close())
				}
			}
			b.ReportMetric(float64(ours)/1e6, "cpu-ms")
			b.ReportMetric(float64(peer)/1e6, "peer-ms")
			b.ReportMetric(float64(ours)/float64(peer), "ours/peer")
			b.ReportMetric(float64(ours)/float64(plain), "ours/plain-peer")
		})
	}
}

// chainForEachPod is what profiles are in nft's language: a chain for each pod, which a map leads to, with a rule for each rule.
func chainForEachPod(s policy.State, named bool) string {
	var sets, counters, chains, lead strings.Builder
	addr := map[string]string{}
	for _, p := range s.Pods {
		addr[p.Meta.Name] = p.Status.PodIPs[0].IP
	}
	made := map[string]bool{}
	for i, p := range s.Policies {
		fmt.Fprintf(&lead, "%s : goto p%d,\n", addr[p.Meta.Name], i)
		fmt.Fprintf(&chains, "chain p%d {\n", i)
		count := func(j int, what string) string {
			if !named {
				return fmt.Sprintf("counter %s comment \"%s %s\"", map[bool]string{true: "accept", false: "drop"}[j >= 0], p.Meta.Key(), what)
			}
			name := fmt.Sprintf("c%d-%d", i, j+1)
			fmt.Fprintf(&counters, "counter %s { comment \"%s %s\"; }\n", name, p.Meta.Key(), what)
			return fmt.Sprintf("counter name \"%s\" %s", name, map[bool]string{true: "accept", false: "drop"}[j >= 0])
		}
		for j, r := range p.Spec.Ingress {
			from := ""
			if block := r.From[0].IPBlock; block != nil {
				from = block.CIDR
			} else {
				app := r.From[0].PodSelector.MatchLabels["app"]
				if from = "@s-" + app; !made[app] {
					made[app] = true
					fmt.Fprintf(&sets, "set s-%s { type ipv4_addr; elements = { %s }; }\n", app, addr[app])
				}
			}
			fmt.Fprintf(&chains, "ip saddr %s tcp dport %d %s\n", from, r.Ports[0].Port.Number, count(j, fmt.Sprintf("ingress[%d]", j)))
		}
		fmt.Fprintf(&chains, "%s\n}\n", count(-1, "isolated"))
	}
	return "table inet peer {\n" + counters.String() + sets.String() + "chain none { }\n" + chains.String() +
		"chain forward { type filter hook forward priority 0; ct state established,related accept; ip daddr vmap {\n" + lead.String() + "}\n}\n}\n"
}

// selecting makes the rules of profiles name pods instead of networks: ten of them.
func selecting(s *policy.State) {
	for i := range s.Policies {
		for j := range s.Policies[i].Spec.Ingress {
			s.Policies[i].Spec.Ingress[j].From = []policy.Peer{{PodSelector: &policy.Selector{MatchLabels: s.Pods[j].Meta.Labels}}}
		}
	}
}

// profiles has n pods, each with a policy of its own of so many rules.
func profiles(n, rules int) policy.State {
	s := many(n)
	for i := range s.Policies {
		for j := range rules {
			s.Policies[i].Spec.Ingress = append(s.Policies[i].Spec.Ingress, policy.IngressRule{
				From:  []policy.Peer{{IPBlock: &policy.IPBlock{CIDR: fmt.Sprintf("10.%d.%d.0/24", 100+j, i%250)}}},
				Ports: []policy.Port{{Port: &policy.PortRef{Number: int32(1000 + j)}}},
			})
		}
	}
	return s
}

// BenchmarkConnect compares what a connection between two pods costs with 1,000 policies on their node, without any, and without a table,
// which is without connection tracking too.
func BenchmarkConnect(b *testing.B) {
	needs(b)
	c := newCluster(b)
	c.serve(b, "db", 8080)
	none := client(b, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	to := netip.AddrPortFrom(c.ends["db"].Addr(false), 8080)
	dial := func() time.Duration {
		start := time.Now()
		conn, err := c.ends["web"].NS.DialContext(context.Background(), "tcp", to.String())
		require.NoError(b, err)
		took := time.Since(start)
		require.NoError(b, conn.Close())
		return took
	}
	with := c.with(b, allowWeb)
	with.Policies = append(with.Policies, profiles(1000, 3).Policies...)
	with.Pods = append(with.Pods, profiles(1000, 3).Pods...)
	for i := range with.Pods {
		if with.Pods[i].Spec.NodeName == "" || with.Pods[i].Meta.Namespace != "default" {
			with.Pods[i].Spec.NodeName = "node0"
		}
	}
	without := with
	without.Policies = nil
	states := []policy.State{{}, without, with}
	took := make([][]time.Duration, len(states))
	for b.Loop() {
		for range 5 { // in turns, so that all meet the same noise
			for i, s := range states {
				_, err := none.Sync(context.Background(), s)
				require.NoError(b, err)
				for range 300 {
					took[i] = append(took[i], dial())
				}
			}
		}
	}
	bare, open, full := median(took[0]), median(took[1]), median(took[2])
	b.ReportMetric(float64(open)/1e3, "none-us")
	b.ReportMetric(float64(full)/1e3, "with-us")
	b.ReportMetric(float64(full)/float64(open), "with/none")
	b.ReportMetric(float64(open)/float64(bare), "none/no-table")
}
