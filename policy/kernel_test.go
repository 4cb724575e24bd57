package policy_test

import (
	"context"
	"fmt"
	"net/netip"
	"os/exec"
	stdsync "sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/policy"
)

func needs(t testing.TB) {
	t.Helper()
	nstest.Require(t, nstest.NFTables)
	loadModules.Do(func() {
		// A modular kernel loads conntrack with the first rule that asks for it; nothing loads what lets netfilter see a bridge's packets.
		_ = exec.Command("/sbin/modprobe", "br_netfilter").Run()
		_ = exec.Command("/sbin/modprobe", "nf_conntrack").Run()
		_ = exec.Command("/sbin/modprobe", "nfnetlink_log").Run()
	})
	nstest.Require(t, nstest.Conntrack)
	nstest.Require(t, nstest.BrNetfilter)
}

var loadModules stdsync.Once

func client(t testing.TB, ns *netns.NS, change ...func(*policy.Config)) *policy.Client {
	t.Helper()
	c := policy.Config{NetNS: ns}
	for _, f := range change {
		f(&c)
	}
	cl, err := policy.New(c)
	require.NoError(t, err)
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func sync(t testing.TB, c *policy.Client, want policy.State) policy.Plan {
	t.Helper()
	p, err := c.Sync(within(t), want)
	require.NoError(t, err)
	again, err := c.Sync(within(t), want)
	require.NoError(t, err)
	require.True(t, again.Empty(), "the second Sync has something to do:\n%s", again)
	return p
}

// web, db and probe are the pods of a node; outside stands behind it.
var podNames = []string{"web", "db", "probe"}

// cluster is a node with three pods on a bridge, and another one with a pod and a route to the first: pods reach each other bridged and
// routed.
type cluster struct {
	*nstest.Cluster
	node  nstest.Node
	ends  map[string]nstest.End // by pod's name, and "outside"
	state policy.State
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{Cluster: nstest.NewCluster(t, 2, 3), ends: map[string]nstest.End{}}
	c.RouteDirectly(t)
	c.node = c.Nodes[0]
	for i, n := range c.Nodes {
		c.state.Nodes = append(c.state.Nodes, policy.Node{
			Meta:   policy.Meta{Name: fmt.Sprintf("node%d", i)},
			Status: policy.NodeStatus{Addresses: []policy.NodeAddress{{Type: "InternalIP", Address: n.V4.Addr().String()}, {Type: "InternalIP", Address: n.V6.Addr().String()}}},
		})
		for j, e := range n.Pods {
			name := podNames[j]
			if i > 0 {
				name = "far-" + name
			}
			c.ends[name] = e
			c.state.Pods = append(c.state.Pods, policy.Pod{
				Meta:   policy.Meta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
				Spec:   policy.PodSpec{NodeName: fmt.Sprintf("node%d", i), Containers: []policy.Container{{Ports: []policy.ContainerPort{{Name: "http", ContainerPort: 8080}, {Name: "dns", ContainerPort: 5353, Protocol: policy.UDP}}}}},
				Status: policy.PodStatus{PodIPs: []policy.PodIP{{IP: e.V4.Addr().String()}, {IP: e.V6.Addr().String()}}},
			})
		}
	}
	c.ends["outside"] = nstest.End{NS: c.Underlay, V4: netip.MustParsePrefix("192.168.50.1/24"), V6: netip.MustParsePrefix("fd50::1/64")}
	c.ends["node0"], c.ends["node1"] = c.Nodes[0].End, c.Nodes[1].End
	return c
}

// with returns the cluster's State with policies, written as users write them.
func (c *cluster) with(t testing.TB, policies ...string) policy.State {
	t.Helper()
	s := c.state
	s.Policies, s.ClusterPolicies = nil, nil
	for _, text := range policies {
		addPolicy(t, &s, text)
	}
	return s
}

// serve runs servers for TCP and UDP on ports of a pod, both families.
func (c *cluster) serve(t testing.TB, name string, ports ...uint16) {
	t.Helper()
	for _, port := range ports {
		for _, a := range c.ends[name].Addrs() {
			at := netip.AddrPortFrom(a, port).String()
			nstest.ServeTCP(t, c.ends[name].NS, at, name)
			nstest.ServeUDP(t, c.ends[name].NS, at, name)
		}
	}
}

// matrix asks every pair of ends over TCP and UDP, both families, whether it works, and holds the answers to Evaluate.
func (c *cluster) matrix(t *testing.T, s policy.State, ports []uint16, from []string, to []string) {
	t.Helper()
	e := policy.NewEvaluator(s)
	var wait stdsync.WaitGroup
	var mu stdsync.Mutex
	wrong := 0
	asked := map[bool]int{}
	slots := make(chan struct{}, 16)
	for _, src := range from {
		for _, dst := range to {
			for _, v6 := range []bool{false, true} {
				for _, proto := range []policy.Protocol{policy.TCP, policy.UDP} {
					for _, port := range ports {
						wait.Add(1)
						go func() {
							defer wait.Done()
							slots <- struct{}{}
							defer func() { <-slots }()
							a := netip.AddrPortFrom(c.ends[dst].Addr(v6), port)
							v := e.Evaluate(policy.Packet{Protocol: proto, Src: c.ends[src].Addr(v6), Dst: a.Addr(), Port: port})
							network := map[policy.Protocol]string{policy.TCP: "tcp", policy.UDP: "udp"}[proto]
							got := reaches(c.ends[src].NS, network, a, v.Allowed)
							mu.Lock()
							defer mu.Unlock()
							asked[v.Allowed]++
							if got != v.Allowed {
								wrong++
								t.Errorf("%s -> %s, %s %s: %t, but %s", src, dst, proto, a, got, v)
							}
						}()
					}
				}
			}
		}
	}
	wait.Wait()
	require.Zero(t, wrong)
	t.Logf("%d allowed, %d denied", asked[true], asked[false])
}

// reaches asks for an answer; one that is due is waited for long, else a short silence is enough.
func reaches(ns *netns.NS, network string, to netip.AddrPort, due bool) bool {
	if due {
		_, err := nstest.Ask(ns, network, to)
		return err == nil
	}
	return nstest.Answers(ns, network, to, nstest.SilenceFor)
}

func TestMatrix(t *testing.T) {
	needs(t)
	c := newCluster(t)
	for _, name := range []string{"web", "db", "probe", "far-web"} {
		c.serve(t, name, 8080, 8081)
	}
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	s := c.with(t,
		`{"metadata":{"namespace":"default","name":"db"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[
			{"from":[{"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"port":8080},{"port":8080,"protocol":"UDP"}]},
			{"from":[{"podSelector":{"matchLabels":{"app":"far-web"}}}],"ports":[{"port":"http"}]}]}}`,
		`{"metadata":{"namespace":"default","name":"probe"},"spec":{"podSelector":{"matchLabels":{"app":"probe"}},"policyTypes":["Egress"],"egress":[
			{"to":[{"ipBlock":{"cidr":"10.244.0.0/16","except":["10.244.0.10/32"]}},{"ipBlock":{"cidr":"fd44::/32","except":["fd44::10/128"]}}],"ports":[{"port":8080,"endPort":8085}]}]}}`)
	sync(t, cl, s)
	c.matrix(t, s, []uint16{8080, 8081}, []string{"web", "db", "probe", "far-web", "outside", "node0", "node1"}, []string{"web", "db", "probe", "far-web"})
	nstest.Run(t, c.node.NS, "nft", "-j", "list", "ruleset")
	got, err := cl.Read(within(t))
	require.NoError(t, err)
	want, err := policy.Config{Node: "node0"}.Compile(s)
	require.NoError(t, err)
	require.Empty(t, policy.Diff(got, want).String())
	sync(t, cl, policy.State{})
	require.Empty(t, nstest.Run(t, c.node.NS, "nft", "list", "ruleset"))
}

// Networks of several lengths with single ports, which are entries of sets, and what they count.
func TestBlocks(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080, 8081, 8082)
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	s := c.with(t, fmt.Sprintf(`{"metadata":{"namespace":"default","name":"db"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[
		{"from":[{"ipBlock":{"cidr":"%[1]s/32"}},{"ipBlock":{"cidr":"%[2]s/128"}}],"ports":[{"port":8080},{"port":8080,"protocol":"UDP"}]},
		{"from":[{"ipBlock":{"cidr":"%[1]s/30"}},{"ipBlock":{"cidr":"%[2]s/126"}}],"ports":[{"port":8081},{"port":8081,"protocol":"UDP"}]},
		{"from":[{"ipBlock":{"cidr":"%[3]s/24"}},{"ipBlock":{"cidr":"%[4]s/64"}}],"ports":[{"port":8080},{"port":8082,"protocol":"UDP"}]}]}}`,
		c.ends["web"].Addr(false), c.ends["web"].Addr(true), c.ends["far-web"].Addr(false), c.ends["far-web"].Addr(true)))
	sync(t, cl, s)
	c.matrix(t, s, []uint16{8080, 8081, 8082}, []string{"web", "probe", "far-web", "outside", "node1"}, []string{"db"})
	nstest.Run(t, c.node.NS, "nft", "list", "ruleset")
	nstest.Run(t, c.node.NS, "nft", "-j", "list", "ruleset")
	counters, err := cl.Counters(within(t))
	require.NoError(t, err)
	counted := map[int]uint64{}
	for _, n := range counters {
		if n.By.Reason == policy.ByRule {
			counted[n.By.Rule] += n.Packets
		}
	}
	allowed := map[int]uint64{0: 4, 1: 6, 2: 4} // TCP and UDP, both families; the second network of IPv6 has probe in it
	require.Equal(t, allowed, counted, "the first packets of connections")
	got, err := cl.Read(within(t))
	require.NoError(t, err)
	want, err := policy.Config{Node: "node0"}.Compile(s)
	require.NoError(t, err)
	require.Empty(t, policy.Diff(got, want).String())
	// An edit of the policy leaves the counters of the rules that it keeps.
	s.Policies[0].Spec.Ingress = s.Policies[0].Spec.Ingress[:2]
	sync(t, cl, s)
	c.matrix(t, s, []uint16{8080, 8082}, []string{"far-web"}, []string{"db"})
	counters, err = cl.Counters(within(t))
	require.NoError(t, err)
	for _, n := range counters {
		if n.By.Reason == policy.ByRule {
			require.Equal(t, allowed[n.By.Rule], n.Packets, n.String())
		}
	}
}
