package policy_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/policy"
)

const (
	allowWeb = `{"metadata":{"namespace":"default","name":"allow-web"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[{"from":[{"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"port":8080},{"protocol":"UDP","port":8080}]}]}}`
	denyAll  = `{"metadata":{"namespace":"default","name":"deny"},"spec":{"podSelector":{},"policyTypes":["Ingress","Egress"]}}`
)

func update(t testing.TB, c *policy.Client, change policy.Change) policy.Plan {
	t.Helper()
	p, err := c.Update(within(t), change)
	require.NoError(t, err)
	return p
}

// Each change is in force when Update returns, and leaves the table as a Sync of the whole would.
func TestUpdate(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	inNode := func(c *policy.Config) { c.Node = "node0" }
	cl := client(t, c.node.NS, inNode)
	_, err := cl.Update(within(t), policy.Change{})
	require.ErrorContains(t, err, "Sync first")
	s := c.with(t, allowWeb)
	sync(t, cl, s)
	from, to := []string{"web", "probe", "far-web"}, []string{"db"}
	step := func(name string, change policy.Change, most int) {
		t.Helper()
		p := update(t, cl, change)
		require.LessOrEqual(t, len(strings.Split(strings.TrimSpace(p.String()), "\n")), most, "%s: %s", name, p)
		s = after(s, change)
		c.matrix(t, s, []uint16{8080}, from, to)
		fresh, err := policy.Config{Node: "node0"}.Compile(s)
		require.NoError(t, err)
		got, err := client(t, c.node.NS, inNode).Read(within(t))
		require.NoError(t, err)
		require.Empty(t, policy.Diff(got, fresh).String(), name)
	}
	pod := func(name string) policy.Pod {
		return s.Pods[slices.IndexFunc(s.Pods, func(p policy.Pod) bool { return p.Meta.Name == name })]
	}
	probe := pod("probe")
	probe.Meta.Labels = map[string]string{"app": "web"}
	step("a peer's label", policy.Change{Set: policy.State{Pods: []policy.Pod{probe}}}, 2)
	step("a peer goes", policy.Change{Drop: policy.Drop{Pods: []policy.Name{{Namespace: "default", Name: "probe"}}}}, 2)
	db := pod("db")
	db.Meta.Labels = map[string]string{"app": "other"}
	step("the subject's label", policy.Change{Set: policy.State{Pods: []policy.Pod{db}}}, 100)
	var deny policy.State
	addPolicy(t, &deny, denyAll)
	step("a policy comes", policy.Change{Set: deny}, 100)
	step("a policy goes", policy.Change{Drop: policy.Drop{Policies: []policy.Name{{Namespace: "default", Name: "deny"}}}}, 100)
	var admin policy.State
	addPolicy(t, &admin, `{"metadata":{"name":"no"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{"matchLabels":{"kubernetes.io/metadata.name":"default"}}},"ingress":[{"action":"Deny","from":[{"namespaces":{"matchLabels":{"team":"x"}}}]}]}}`)
	step("a ClusterNetworkPolicy", policy.Change{Set: admin}, 100)
	step("a namespace's labels", policy.Change{Set: policy.State{Namespaces: []policy.Namespace{{Meta: policy.Meta{Name: "default", Labels: map[string]string{"team": "x"}}}}}}, 16)
	require.True(t, update(t, cl, policy.Change{Set: admin}).Empty(), "nothing is different")
}

// A pod that starts before it is known is closed, in both directions, and open when Admit returns.
func TestAdmit(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	c.serve(t, "far-web", 8080)
	nstest.ServeTCP(t, c.node.NS, ":9090", "node")
	local := []netip.Prefix{c.node.PodV4, c.node.PodV6}
	s := c.with(t)
	known := s
	known.Pods = slices.DeleteFunc(slices.Clone(s.Pods), func(p policy.Pod) bool { return p.Meta.Name == "db" })
	db := s.Pods[slices.IndexFunc(s.Pods, func(p policy.Pod) bool { return p.Meta.Name == "db" })]
	for name, allow := range map[string]bool{"closed": false, "open": true} {
		t.Run(name, func(t *testing.T) {
			cl := client(t, c.node.NS, func(c *policy.Config) { c.Node, c.Local, c.AllowUnknown = "node0", local, allow })
			sync(t, cl, known)
			ask := func(want bool) {
				t.Helper()
				for _, v6 := range []bool{false, true} {
					for _, way := range [][2]string{{"web", "db"}, {"far-web", "db"}, {"db", "far-web"}} {
						to := netip.AddrPortFrom(c.ends[way[1]].Addr(v6), 8080)
						require.Equal(t, want, reaches(c.ends[way[0]].NS, "tcp", to, want), "%s to %s", way, to)
					}
					// The kubelet's way stays open, and the host's to itself.
					gateway := map[bool]netip.Prefix{false: c.node.PodV4, true: c.node.PodV6}[v6].Masked().Addr().Next()
					require.True(t, reaches(c.node.NS, "tcp", netip.AddrPortFrom(gateway, 9090), true))
					require.True(t, reaches(c.node.NS, "tcp", netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080), true))
				}
			}
			ask(allow)
			require.NoError(t, cl.Admit(within(t), db))
			ask(true)
			// It goes, and its address is nobody's again: not even what it had begun goes on.
			flow, err := nstest.Dial(t, c.ends["db"].NS, "tcp", netip.AddrPortFrom(c.ends["far-web"].Addr(false), 8080))
			require.NoError(t, err)
			_, err = flow.Ask()
			require.NoError(t, err)
			db.Status.Phase = "Succeeded"
			require.NoError(t, cl.Admit(within(t), db))
			db.Status.Phase = ""
			ask(allow)
			require.Eventually(t, func() bool {
				require.NoError(t, flow.SetDeadline(time.Now().Add(nstest.SilenceFor)))
				_, err := flow.Write([]byte("who\n"))
				if err == nil {
					_, err = flow.Read(make([]byte, 64))
				}
				return (err == nil) == allow
			}, 20*time.Second, time.Millisecond)
			sync(t, cl, policy.State{})
			ask(true)
			require.Empty(t, nstest.Run(t, c.node.NS, "nft", "list", "ruleset"))
		})
	}
}

// A connection that a change denies is cut, others live on; with KeepLive all do.
func TestLive(t *testing.T) {
	needs(t)
	for name, keep := range map[string]bool{"cut": false, "kept": true} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t)
			c.serve(t, "db", 8080)
			cl := client(t, c.node.NS, func(c *policy.Config) { c.Node, c.KeepLive = "node0", keep })
			s := c.with(t)
			sync(t, cl, s)
			type flow struct {
				*nstest.Flow
				name string
				ends bool
			}
			var flows []flow
			for _, v6 := range []bool{false, true} {
				for _, network := range []string{"tcp", "udp"} {
					for _, from := range []string{"web", "probe", "far-web", "node0"} {
						f, err := nstest.Dial(t, c.ends[from].NS, network, netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080))
						require.NoError(t, err)
						_, err = f.Ask()
						require.NoError(t, err)
						flows = append(flows, flow{f, from + " " + network, from == "probe" || from == "far-web"})
					}
				}
			}
			var allow policy.State
			addPolicy(t, &allow, allowWeb)
			update(t, cl, policy.Change{Set: allow})
			require.NoError(t, cl.Close(), "what is to be cut is, even if nobody waits for it")
			for _, f := range flows {
				if f.ends && !keep {
					require.Eventually(t, func() bool {
						require.NoError(t, f.SetDeadline(time.Now().Add(nstest.SilenceFor)))
						_, err := f.Write([]byte("who\n"))
						if err == nil {
							_, err = f.Read(make([]byte, 64))
						}
						return err != nil
					}, 20*time.Second, time.Millisecond, f.name)
					continue
				}
				_, err := f.Ask()
				require.NoError(t, err, f.name)
			}
			require.False(t, reaches(c.ends["probe"].NS, "tcp", netip.AddrPortFrom(c.ends["db"].Addr(false), 8080), false), "new ones are denied in any case")
		})
	}
}

// What is denied is refused at once, on both ways that packets take.
func TestReject(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node, c.Reject = "node0", true })
	sync(t, cl, c.with(t, denyAll))
	for _, v6 := range []bool{false, true} {
		for _, network := range []string{"tcp", "udp"} {
			for _, from := range []string{"web", "far-web"} {
				nstest.Refused(t, c.ends[from].NS, network, netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080))
			}
		}
	}
	nstest.Run(t, c.node.NS, "nft", "-j", "list", "ruleset")
}

// Denied packets are told, with the rule that decided, and counted.
func TestDenials(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	cl := client(t, c.node.NS, func(c *policy.Config) {
		c.Node, c.Log, c.Local = "node0", policy.Log{Group: 7, Rate: 1000}, []netip.Prefix{netip.MustParsePrefix("10.244.0.0/24")}
	})
	sync(t, cl, c.with(t, allowWeb,
		`{"metadata":{"name":"no-far"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}},"egress":[{"name":"far","action":"Deny","to":[{"networks":["10.244.1.0/24","fd44:0:0:1::/64"]}]}]}}`))
	ctx, cancel := context.WithCancel(within(t))
	told := make(chan policy.Denial, 1024)
	done := make(chan error, 1)
	go func() { done <- cl.Denials(ctx, func(d policy.Denial) { told <- d }) }()
	want := map[string]func(v6 bool){
		"denied: default/db is isolated for ingress by default/allow-web, no rule of default/allow-web matches default/probe": func(v6 bool) {
			reaches(c.ends["probe"].NS, "tcp", netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080), false)
		},
		`denied: Admin policy no-far, egress[0] "far", to[0], for default/web`: func(v6 bool) {
			reaches(c.ends["web"].NS, "udp", netip.AddrPortFrom(c.ends["far-web"].Addr(v6), 8080), false)
		},
	}
	for text, do := range want {
		for _, v6 := range []bool{false, true} {
			wait := time.After(20 * time.Second)
			for found := false; !found; {
				do(v6) // again until Denials listens
				for more := true; more && !found; {
					select {
					case d := <-told:
						found = d.Packet.Src.Is6() == v6 && strings.HasSuffix(d.String(), text) && d.Packet.Port == 8080
					case <-wait:
						t.Fatalf("nothing was told of %q", text)
					default:
						more = false
					}
				}
			}
		}
	}
	// A second listener is refused, not fooled.
	require.Error(t, cl.Denials(within(t), func(policy.Denial) {}))
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)

	counted := func() map[string]uint64 {
		list, err := cl.Counters(within(t))
		require.NoError(t, err)
		got := map[string]uint64{}
		for _, n := range list {
			_, by, _ := strings.Cut(n.String(), ": ")
			got[by] += n.Packets
		}
		return got
	}
	nstest.Reaches(t, c.ends["web"].NS, "tcp", netip.AddrPortFrom(c.ends["db"].Addr(false), 8080))
	got := counted()
	require.NotZero(t, got["NetworkPolicy default/allow-web ingress[0]"], "%v", got)
	require.NotZero(t, got["ingress isolated by default/allow-web"], "%v", got)
	// They outlive the chains that count.
	var deny policy.State
	addPolicy(t, &deny, strings.ReplaceAll(denyAll, `"Egress"`, `"Ingress"`))
	deny.Policies[0].Spec.PolicyTypes = []policy.Direction{policy.Ingress}
	update(t, cl, policy.Change{Set: deny})
	require.GreaterOrEqual(t, counted()["NetworkPolicy default/allow-web ingress[0]"], got["NetworkPolicy default/allow-web ingress[0]"])
}
