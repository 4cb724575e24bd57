package conditions

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/container"
)

// Host is a pod or a node.
type Host struct {
	Name  string
	Dial  container.Dialer // opens connections from inside its namespace
	Addrs []netip.Addr     // the addresses that it was given, one of each family
	Port  uint16           // TCP port on which a pod's container answers
}

// probe is one connection.
type probe struct {
	from, to *Host
	target   netip.AddrPort
	asked    container.Asked
	err      error
}

const (
	probeTimeout = 3 * time.Second
	probesAtOnce = 8
	mostProbes   = 800 // of each condition, before pairs are sampled
)

// run makes all connections. A failed connection is a finding and not an error; only a cancelled context ends the work early.
func run(ctx context.Context, probes []*probe) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(probesAtOnce)
	for _, p := range probes {
		group.Go(func() error {
			limited, cancel := context.WithTimeout(ctx, probeTimeout)
			defer cancel()
			p.asked, p.err = container.Ask(limited, p.from.Dial, p.target)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if p.err != nil && limited.Err() != nil {
				p.err = errors.New("no answer")
			}
			return nil
		})
	}
	return group.Wait()
}

func probesTo(from, to *Host) []*probe {
	var probes []*probe
	for _, addr := range to.Addrs {
		probes = append(probes, &probe{from: from, to: to, target: netip.AddrPortFrom(addr, to.Port)})
	}
	return probes
}

// podProbes connects every pod with every other one. Beyond mostProbes each pod connects to as many others as that allows, at
// regular distances in the list, so that every pod is tried from several others and, as pods are spread over nodes, over
// every path. It also returns the number of pairs that there are.
func podProbes(pods []Host) (probes []*probe, pairs, tried int) {
	n := len(pods)
	if n < 2 {
		return nil, 0, 0
	}
	each := min(n-1, max(1, mostProbes/(2*n)))
	for i := range pods {
		others := make([]int, each)
		for k := range others {
			others[k] = (i + 1 + k*(n-1)/each) % n
		}
		slices.Sort(others)
		for _, other := range others {
			probes = append(probes, probesTo(&pods[i], &pods[other])...)
		}
	}
	return probes, n * (n - 1), n * each
}

// fault says what is wrong with a connection that should have arrived as it was sent, or nil.
func (p *probe) fault() error {
	path := fmt.Sprintf("%s -> %s %s", p.from.Name, p.to.Name, p.target)
	switch a := p.asked; {
	case p.err != nil:
		return fmt.Errorf("%s: %w", path, p.err)
	case a.Pod != p.to.Name:
		return fmt.Errorf("%s: pod %s answered", path, a.Pod)
	case a.Client != a.From:
		return fmt.Errorf("%s: source translated: sent from %s, arrived from %s", path, a.From, a.Client)
	case a.Server != p.target:
		return fmt.Errorf("%s: destination translated: arrived at %s", path, a.Server)
	}
	return nil
}
