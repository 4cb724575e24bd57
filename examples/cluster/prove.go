package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/podplumb/podplumb/examples/internal/conditions"
	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
)

// prove sends packets and prints what became of them. The error names what does not hold.
func (c *cluster) prove(ctx context.Context) error {
	c.out.Line("")
	var results []conditions.Result
	err := c.out.Steps(ctx, report.Step{Title: "everybody asks everybody", Do: func(ctx context.Context) (outcome string, err error) {
		results, outcome, err = conditions.Check(ctx, c.podHosts(), c.nodeHosts())
		return outcome, err
	}})
	if err != nil {
		return err
	}
	c.out.Line("")
	var faults []error
	const lines = 4
	if !c.out.Conditions(results, lines) {
		faults = append(faults, errors.New("not every condition of the network model holds"))
	}
	for _, prove := range []func(context.Context) error{c.proveOutside, c.proveServices, c.proveNames, c.proveCommands} {
		if err := prove(ctx); err != nil {
			faults = append(faults, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(faults...)
}

func (c *cluster) podHosts() []conditions.Host {
	var hosts []conditions.Host
	for _, p := range c.pods {
		hosts = append(hosts, conditions.Host{Name: p.Name(), Dial: p.ns.DialContext, Addrs: p.Addrs, Port: p.probe})
	}
	return hosts
}

func (c *cluster) nodeHosts() []conditions.Host {
	var hosts []conditions.Host
	for _, n := range c.nodes {
		hosts = append(hosts, conditions.Host{Name: n.Name(), Dial: n.ns.DialContext})
	}
	return hosts
}

const askTimeout = 3 * time.Second

// proveOutside has one pod of each node talk to the server outside of the cluster, which must see the node and not the pod.
func (c *cluster) proveOutside(ctx context.Context) error {
	var lines []string
	var faults []error
	for _, n := range c.nodes {
		if len(n.pods) == 0 {
			continue
		}
		p := n.pods[0]
		for family, addr := range outsideAddrs {
			limited, cancel := context.WithTimeout(ctx, askTimeout)
			asked, err := container.Ask(limited, p.ns.DialContext, netip.AddrPortFrom(addr, 80))
			cancel()
			switch {
			case err != nil:
				faults = append(faults, fmt.Errorf("%s -> %s: %w", p.Name(), addr, err))
			case asked.Client.Addr() != n.Addrs[family]:
				faults = append(faults, fmt.Errorf("%s -> %s: seen as %s and not as its node, %s", p.Name(), addr, asked.Client.Addr(), n.Addrs[family]))
			default:
				lines = append(lines, fmt.Sprintf("%s -> %s  from %s, seen as %s, which is %s", p.Name(), addr, asked.From, asked.Client, n.Name()))
			}
		}
	}
	if len(lines)+len(faults) == 0 {
		return nil // no pods
	}
	c.out.Verdict(len(faults) == 0, "pods reach the world outside under the address of their node")
	for _, line := range lines {
		c.out.Line("          %s", line)
	}
	for _, fault := range faults {
		c.out.Line("          but: %v", fault)
	}
	if len(faults) > 0 {
		return errors.New("the way to the outside is not as it should be")
	}
	return nil
}
