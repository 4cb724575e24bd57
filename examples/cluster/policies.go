package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/policy"
)

// enforce puts the network policies of the manifests in force, after the network itself has been proved, and proves them.
func (c *cluster) enforce(ctx context.Context) error {
	count := len(c.layout.NetworkPolicies) + len(c.layout.ClusterNetworkPolicies)
	if count == 0 {
		return nil
	}
	state, err := c.layout.Policies()
	if err != nil {
		return err
	}
	c.out.Line("")
	err = c.out.Steps(ctx, report.Step{Title: "network policies on each node", Do: func(ctx context.Context) (string, error) {
		err := c.eachNode(ctx, func(ctx context.Context, n *node) error { return c.enforceOn(ctx, n, state) })
		return fmt.Sprintf("%d in force", count), err
	}})
	if err != nil {
		return err
	}
	c.out.Line("")
	return c.provePolicies(ctx, state)
}

// enforceOn enforces the policies for the pods of one node. What is denied is refused at once, so that nobody has to wait. The table
// stays when this process ends.
func (c *cluster) enforceOn(ctx context.Context, n *node, state policy.State) error {
	client, err := policy.New(policy.Config{NetNS: n.ns, Node: n.Name(), Reject: true})
	if err != nil {
		return err
	}
	defer client.Close()
	plan, err := client.Sync(ctx, state)
	if err != nil {
		return err
	}
	c.out.Detail(1, n.Name(), plan.String())
	return nil
}

// try is one connection under the policies.
type try struct {
	from    string
	dial    container.Dialer
	to      *pod
	packet  policy.Packet
	verdict policy.Verdict
	err     error
}

// mostTries bounds the connections that are tried, evenly among all that there are.
const mostTries = 400

// tries lists a connection from every pod to every other one, and from every node to its own pods.
func (c *cluster) tries() []*try {
	var all []*try
	add := func(from string, dial container.Dialer, src netip.Addr, to *pod) {
		for _, dst := range to.Addrs {
			if dst.Is4() == src.Is4() && to.probe != 0 {
				all = append(all, &try{from: from, dial: dial, to: to, packet: policy.Packet{Protocol: policy.TCP, Src: src, Dst: dst, Port: to.probe}})
			}
		}
	}
	for _, to := range c.pods {
		for _, from := range c.pods {
			for _, src := range from.Addrs {
				if from != to {
					add(from.Name(), from.ns.DialContext, src, to)
				}
			}
		}
		for _, n := range c.nodes {
			for _, network := range n.PodNets {
				if to.Node == n.Name() {
					add(n.Name(), n.ns.DialContext, network.Router, to)
				}
			}
		}
	}
	if len(all) <= mostTries {
		return all
	}
	some := make([]*try, mostTries)
	for i := range some {
		some[i] = all[i*len(all)/mostTries]
	}
	return some
}

// provePolicies tries connections and holds what becomes of them to what policy.Evaluate says.
func (c *cluster) provePolicies(ctx context.Context, state policy.State) error {
	const silence = time.Second // is enough where nothing is to answer
	evaluator := policy.NewEvaluator(state)
	tries := c.tries()
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, t := range tries {
		group.Go(func() error {
			t.verdict = evaluator.Evaluate(t.packet)
			wait := silence
			if t.verdict.Allowed {
				wait = 3 * askTimeout
			}
			limited, cancel := context.WithTimeout(ctx, wait)
			defer cancel()
			_, t.err = container.Ask(limited, t.dial, netip.AddrPortFrom(t.packet.Dst, t.packet.Port))
			return context.Cause(ctx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var lines, wrong []string
	seen := map[string]bool{} // a line for every reason
	through := 0
	for _, t := range tries {
		if t.err == nil {
			through++
		}
		what := fmt.Sprintf("%s -> %s  %s: %s", t.from, t.to.Name(), netip.AddrPortFrom(t.packet.Dst, t.packet.Port), t.verdict)
		if (t.err == nil) != t.verdict.Allowed {
			wrong = append(wrong, fmt.Sprintf("%s, and the packets say: %v", what, t.err))
		} else if key := fmt.Sprint(t.verdict.Allowed, t.verdict.By.Reason, t.verdict.By.Policy, t.verdict.By.Isolating); !seen[key] || c.out.Verbose > 0 {
			seen[key] = true
			lines = append(lines, what)
		}
	}
	c.out.Verdict(len(wrong) == 0, "network policies: of %d connections %d go through and %d are refused, as policy.Evaluate says", len(tries), through, len(tries)-through)
	for _, line := range lines {
		c.out.Line("          %s", line)
	}
	for _, line := range wrong {
		c.out.Line("          but: %s", line)
	}
	if len(wrong) > 0 {
		return errors.New("the network policies are not enforced as they should be")
	}
	return nil
}
