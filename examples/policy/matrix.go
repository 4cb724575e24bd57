package main

import (
	"context"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/policy"
)

// source is somebody who asks.
type source struct {
	name  string
	dial  container.Dialer
	addrs []netip.Addr
	self  *pod  // who asks, when it is a pod
	of    *node // whose own node asks
}

// target is a port that is asked for.
type target struct {
	pod  *pod
	port port
}

// cell is what becomes of one source and one target, for each family.
type cell struct {
	packets [2]bool
	verdict [2]policy.Verdict
	self    bool
	err     [2]error
}

const (
	asksAtOnce = 8
	patience   = 10 * time.Second // for an answer that is due
	silence    = 700 * time.Millisecond
)

func (n *network) sources() []source {
	var list []source
	for _, p := range n.pods {
		list = append(list, source{name: p.Name(), dial: p.ns.DialContext, addrs: p.Addrs, self: p})
	}
	list = append(list, source{name: outside, dial: n.wire.DialContext, addrs: outsideAddrs})
	for _, at := range n.nodes {
		list = append(list, source{name: at.Name(), dial: at.ns.DialContext, addrs: at.Addrs, of: at})
	}
	return list
}

func (n *network) targets() []target {
	var list []target
	for _, p := range n.pods {
		for _, at := range p.ports {
			list = append(list, target{p, at})
		}
	}
	return list
}

// matrix asks everybody for everything and prints what came of it: from whom in the rows, for which port in the columns.
func (n *network) matrix(ctx context.Context, title string, s policy.State) error {
	evaluator := policy.NewEvaluator(s)
	sources, targets := n.sources(), n.targets()
	cells := make([][]cell, len(sources))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(asksAtOnce)
	var asked, allowed, wrong atomic.Int32
	for i := range sources {
		cells[i] = make([]cell, len(targets))
		for j := range targets {
			c := &cells[i][j]
			if c.self = sources[i].self == targets[j].pod; c.self {
				continue
			}
			for family := range 2 {
				group.Go(func() error {
					asked.Add(1)
					n.ask(ctx, evaluator, &sources[i], &targets[j], family, c)
					if c.packets[family] {
						allowed.Add(1)
					}
					if c.packets[family] != c.verdict[family].Allowed {
						wrong.Add(1)
					}
					return context.Cause(ctx)
				})
			}
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	n.out.Line("\n%s:\n", title)
	header := []string{"FROM"}
	for _, t := range targets {
		header = append(header, fmt.Sprintf("%s %s", t.pod.Name(), t.port))
	}
	rows := [][]string{header}
	for i := range sources {
		row := []string{sources[i].name}
		for j := range targets {
			row = append(row, cells[i][j].String())
		}
		rows = append(rows, row)
	}
	n.out.Table(rows...)
	n.reasons(sources, targets, cells)
	n.out.Line("")
	n.out.Verdict(wrong.Load() == 0, "%d connections over IPv4 and IPv6: %d went through, %d did not; Evaluate says otherwise of %d",
		asked.Load(), allowed.Load(), asked.Load()-allowed.Load(), wrong.Load())
	if wrong.Load() > 0 {
		return errDisagree
	}
	return nil
}

// reasons prints why, for each family, with -v; and always where packets and Evaluate do not agree.
func (n *network) reasons(sources []source, targets []target, cells [][]cell) {
	for i := range sources {
		for j := range targets {
			c := &cells[i][j]
			for family := range 2 {
				if c.self || n.out.Verbose == 0 && c.packets[family] == c.verdict[family].Allowed {
					continue
				}
				n.out.Line("  %s -> %s %s over IPv%d: packets: %s; Evaluate: %s", sources[i].name, targets[j].pod.Name(), targets[j].port,
					4+2*family, map[bool]string{true: "answered", false: fmt.Sprint(c.err[family])}[c.packets[family]], c.verdict[family])
			}
		}
	}
}

// String prints "yes" or "no", and both where the families differ.
func (c *cell) String() string {
	word := map[bool]string{true: "yes", false: "no"}
	switch {
	case c.self:
		return "-"
	case c.packets[0] == c.packets[1]:
		return word[c.packets[0]]
	}
	return fmt.Sprintf("IPv4 %s, IPv6 %s", word[c.packets[0]], word[c.packets[1]])
}

// ask tries one connection.
func (n *network) ask(ctx context.Context, evaluator *policy.Evaluator, from *source, to *target, family int, c *cell) {
	at := netip.AddrPortFrom(to.pod.Addrs[family], to.port.number)
	src := from.addrs[family]
	if from.of != nil && from.of.Name() == to.pod.Node {
		src = from.of.PodNets[family].Router // from which a node asks its own pods
	}
	c.verdict[family] = evaluator.Evaluate(policy.Packet{Protocol: to.port.proto, Src: src, Dst: at.Addr(), Port: at.Port()})
	wait := silence
	if c.verdict[family].Allowed {
		wait = patience
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	if to.port.proto == policy.UDP {
		_, c.err[family] = container.AskUDP(ctx, from.dial, at)
	} else {
		_, c.err[family] = container.Ask(ctx, from.dial, at)
	}
	c.packets[family] = c.err[family] == nil
}
