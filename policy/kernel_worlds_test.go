package policy_test

import (
	"flag"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/policy"
)

var kernelTime = flag.Duration("kernel", time.Second, "how long to hold the kernel to Evaluate on random worlds")

// kernelWorld throws policies, labels, namespaces and named ports for the pods of a cluster that is there.
func kernelWorld(d dice, c *cluster) policy.State {
	s := d.state(len(c.state.Pods), 5, d.IntN(4))
	s.Nodes = c.state.Nodes
	for i := range s.Nodes {
		s.Nodes[i].Meta.Labels = d.labels()
	}
	for i := range s.Pods {
		actual := &c.state.Pods[i]
		phase := s.Pods[i].Status.Phase
		s.Pods[i].Spec.NodeName, s.Pods[i].Spec.HostNetwork = actual.Spec.NodeName, false
		s.Pods[i].Status = actual.Status
		if d.oneIn(3) {
			s.Pods[i].Status.Phase = phase // whose address is anybody's, then
		}
	}
	return s
}

// TestRandomWorlds has the kernel of two nodes enforce one random world after the other, each as a change of the one before, and asks
// everybody for everything.
func TestRandomWorlds(t *testing.T) {
	needs(t)
	c := newCluster(t)
	ports := []uint16{53, 80, 81}
	pods := []string{"web", "db", "probe", "far-web", "far-db", "far-probe"}
	for _, name := range pods {
		c.serve(t, name, ports...)
	}
	var clients []*policy.Client
	for i, n := range c.Nodes {
		clients = append(clients, client(t, n.NS, func(config *policy.Config) { config.Node, config.Reject = fmt.Sprintf("node%d", i), true }))
	}
	deadline := time.Now().Add(*kernelTime)
	for seed := uint64(0); seed < 3 || time.Now().Before(deadline); seed++ {
		s := kernelWorld(newDice(seed, false), c)
		for i := range s.Policies { // exceptions that no API server lets pass
			wholeBlocks(&s.Policies[i])
		}
		require.NoError(t, s.Validate())
		for _, cl := range clients {
			_, err := cl.Sync(within(t), s)
			require.NoError(t, err, "world %d", seed)
		}
		c.matrix(t, s, ports, append([]string{"outside", "node0", "node1"}, pods...), pods)
		if t.Failed() {
			t.Fatalf("world %d\n%s", seed, dump(s))
		}
	}
}

// wholeBlocks drops exceptions that are not part of their block.
func wholeBlocks(p *policy.NetworkPolicy) {
	peers := func(list []policy.Peer) {
		for i := range list {
			b := list[i].IPBlock
			if b == nil {
				continue
			}
			var except []string
			for _, text := range b.Except {
				one := policy.NetworkPolicy{Meta: policy.Meta{Namespace: "x", Name: "x"}}
				one.Spec.Ingress = []policy.IngressRule{{From: []policy.Peer{{IPBlock: &policy.IPBlock{CIDR: b.CIDR, Except: []string{text}}}}}}
				if (policy.State{Policies: []policy.NetworkPolicy{one}}).Validate() == nil {
					except = append(except, text)
				}
			}
			b.Except = except
		}
	}
	for i := range p.Spec.Ingress {
		peers(p.Spec.Ingress[i].From)
	}
	for i := range p.Spec.Egress {
		peers(p.Spec.Egress[i].To)
	}
}
