package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/mesh/agent"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/world"
)

type nodeOptions struct {
	options
	node, domain, ca, sockets string
	prefix                    string
	leaf, root                time.Duration
	probes                    []netip.Prefix
	release                   bool
}

// runNode is the agent of a node.
func runNode(ctx context.Context, args []string, stderr io.Writer) int {
	var o nodeOptions
	flags := flag.NewFlagSet("mesh node", flag.ContinueOnError)
	o.register(flags)
	flags.StringVar(&o.node, "node", os.Getenv("NODE_NAME"), "name of this node")
	flags.StringVar(&o.domain, "trust-domain", "cluster.local", "what all identities begin with")
	flags.StringVar(&o.ca, "ca", "/var/lib/podplumb/mesh-ca.json", "file of the certificate authority, the same for all nodes; it is made if it does not exist")
	flags.DurationVar(&o.leaf, "leaf", time.Hour, "how long an identity is valid; it is renewed at half of that")
	flags.DurationVar(&o.root, "root", 90*24*time.Hour, "how long a root is valid; it is replaced at half of that")
	flags.StringVar(&o.sockets, "sockets", "/run/podplumb-mesh", "directory of the Workload API's sockets")
	flags.StringVar(&o.prefix, "netns", "", "how the names of the pods' namespaces under /run/netns begin; they are told apart by their addresses")
	run.List(flags, "probes", "networks that may reach pods in clear, such as the node's own addresses", &o.probes, parseNetwork)
	flags.BoolVar(&o.release, "release", false, "end the capture when this process ends, instead of refusing everything until it is there again")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	spaciously()
	if err := o.serve(ctx, stderr); err != nil && ctx.Err() == nil {
		return run.Explain(ctx, stderr, "mesh node", err)
	}
	return run.Proved
}

// parseNetwork reads a network or a single address.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func (o *nodeOptions) serve(ctx context.Context, stderr io.Writer) error {
	p, err := o.parse(ctx, stderr)
	faults := []error{err}
	if o.node == "" {
		faults = append(faults, errors.New("-node: which node is this?"))
	}
	domain, err := spiffeid.TrustDomainFromString(o.domain)
	if err != nil {
		faults = append(faults, fmt.Errorf("-trust-domain: %w", err))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	defer p.requests.close()
	if err := os.MkdirAll(filepath.Dir(o.ca), 0o755); err != nil {
		return err
	}
	ca, err := identity.OpenCA(identity.Config{TrustDomain: domain, File: o.ca, Leaf: o.leaf, Root: o.root})
	if err != nil {
		return err
	}
	metrics, err := o.listenMetrics(ctx)
	if err != nil {
		return err
	}
	failed := func(err error) { p.log.Error("the last good state counts", "fault", err) }
	w := world.New(domain, failed)
	a := agent.New(agent.Config{
		Node: o.node, World: w, Issuer: ca, Sockets: o.sockets, Find: agent.FindByAddress(o.prefix), Probes: o.probes, Cluster: o.cluster, NameServer: p.nameServer,
		Handler: func(pod *stream.Workload, d stream.Dialer) stream.Handler { return p.requests.handler(pod, w, d) },
		Drain:   o.drain, Release: o.release, Counts: p.counts, Log: p.log,
	})
	p.registry.MustRegister(a)
	group, ctx := errgroup.WithContext(ctx)
	o.follow(ctx, group, p, w)
	group.Go(func() error { return ca.Run(ctx, failed) })
	group.Go(func() error { return a.Run(ctx) })
	if metrics != nil {
		group.Go(func() error { return p.tell(ctx, metrics) })
	}
	return group.Wait()
}
