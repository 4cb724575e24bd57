// The pod example shows what a pod is to the network: a namespace that some process owns (Kubernetes' pause container) and
// that the containers join. They share one address and one port space, reach each other over localhost, and come and go
// while the namespace and its address stay.
//
//	sudo go run ./examples/pod
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/netip"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

func main() { run.Main(Run) }

// The pod's addresses and those of its gateway on the node, as in the first picture of the network model.
var (
	podAddrs = []netip.Addr{netip.MustParseAddr("10.244.1.5"), netip.MustParseAddr("fd00:10:244:1::5")}
	gateways = []netip.Prefix{netip.MustParsePrefix("10.244.1.1/24"), netip.MustParsePrefix("fd00:10:244:1::1/64")}
)

// Run is the example.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) (code int) {
	out := report.New(stdout)
	flags := flag.NewFlagSet("pod", flag.ContinueOnError)
	run.Verbosity(flags, &out.Verbose, "print what is changed in the kernel")
	name := flags.String("name", "pod", "name of this run, part of the names of its namespaces")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	traces, stale, err := run.Start(*name)
	if err != nil {
		return run.Explain(ctx, stderr, "pod", err)
	}
	if stale.Any() {
		out.Line("removed what a killed run had left: %s", stale)
	}
	p := &pod{run: traces, out: out}
	defer func() {
		removed, err := traces.End()
		p.close()
		if err != nil {
			fmt.Fprintln(stderr, "pod: clean up:", err)
			code = run.Failed
			return
		}
		out.Line("taken down: %s", removed)
	}()
	if err := p.show(ctx); err != nil {
		return run.Explain(ctx, stderr, "pod", err)
	}
	return run.Proved
}

// pod is a node with one pod on it.
type pod struct {
	run *run.Run
	out *report.Printer

	node, sandbox *netns.NS // sandbox is what the pause container owns in Kubernetes; here its name keeps it
	nginx         *container.Process
	sidecar       *container.Process
}

// show builds the pod and demonstrates one property after the other. An error is a property that does not hold.
func (p *pod) show(ctx context.Context) error {
	return p.out.Steps(ctx,
		report.Step{Title: "a namespace for the pod, a bridge to the node", Do: p.build},
		report.Step{Title: "two processes join the namespace", Do: p.join},
		report.Step{Title: "they have one address", Do: p.oneAddress},
		report.Step{Title: "they have one port space", Do: p.onePortSpace},
		report.Step{Title: "they reach each other over localhost", Do: p.localhost},
		report.Step{Title: "the namespace outlives both processes", Do: p.survive},
		report.Step{Title: "a new process finds the old address", Do: p.restart},
	)
}

// build makes the namespace and connects it to a node, which is a namespace too, so that nothing happens to this machine's
// own network.
func (p *pod) build(ctx context.Context) (string, error) {
	var err error
	if p.node, err = p.run.NetNS("node"); err != nil {
		return "", err
	}
	if p.sandbox, err = p.run.NetNS("pod"); err != nil {
		return "", err
	}
	links, err := veth.New(veth.Config{NetNS: p.node})
	if err != nil {
		return "", err
	}
	defer links.Close()
	eth0 := veth.Pod{NetNS: p.sandbox.Path(), Name: "eth0"}
	for i, addr := range podAddrs {
		eth0.Addresses = append(eth0.Addresses, netip.PrefixFrom(addr, gateways[i].Bits()))
		eth0.Routes = append(eth0.Routes, veth.DefaultVia(gateways[i].Addr()))
	}
	plan, err := links.Sync(ctx, veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: gateways}},
		Pairs:   []veth.Pair{{Host: veth.Host{Name: "vethpod", Bridge: "cni0"}, Pod: eth0}},
	})
	if err != nil {
		return "", err
	}
	p.out.Detail(1, "node", plan.String())
	return fmt.Sprintf("%s and %s on eth0", podAddrs[0], podAddrs[1]), nil
}

// close closes handles; the processes and namespaces behind them are removed by the run.
func (p *pod) close() {
	for _, process := range []*container.Process{p.nginx, p.sidecar} {
		if process != nil {
			process.Release()
		}
	}
	for _, ns := range []*netns.NS{p.node, p.sandbox} {
		if ns != nil {
			ns.Close()
		}
	}
}
