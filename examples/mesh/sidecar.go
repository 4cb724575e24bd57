package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"time"

	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/world"
)

type proxyOptions struct {
	options
	pod, api   string
	processors int
}

// runProxy is the proxy of a pod, inside of it. It needs no rights.
func runProxy(ctx context.Context, args []string, stderr io.Writer) int {
	var o proxyOptions
	flags := flag.NewFlagSet("mesh proxy", flag.ContinueOnError)
	o.register(flags)
	pod := os.Getenv("POD_NAME")
	if namespace := os.Getenv("POD_NAMESPACE"); pod != "" && namespace != "" {
		pod = namespace + "/" + pod
	}
	flags.StringVar(&o.pod, "pod", pod, "this pod, as NAMESPACE/NAME")
	flags.StringVar(&o.api, "workload-api", os.Getenv("SPIFFE_ENDPOINT_SOCKET"), "where the SPIFFE Workload API is: unix:///PATH")
	flags.IntVar(&o.processors, "processors", 1, "how many the proxy may use at a time; 0: as many as there are")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	spaciously()
	runtime.GOMAXPROCS(o.processors) // with one, no time is lost in looking for work that others have
	if err := o.serve(ctx, stderr); err != nil && ctx.Err() == nil {
		return run.Explain(ctx, stderr, "mesh proxy", err)
	}
	return run.Proved
}

func (o *proxyOptions) serve(ctx context.Context, stderr io.Writer) error {
	p, err := o.parse(ctx, stderr)
	faults := []error{err}
	if o.pod == "" {
		faults = append(faults, errors.New("-pod: which pod is this?"))
	}
	if o.api == "" {
		faults = append(faults, errors.New("-workload-api: where does this proxy have its identity from?"))
	}
	if err := errors.Join(faults...); err != nil {
		return err
	}
	defer p.requests.close()
	metrics, err := o.listenMetrics(ctx)
	if err != nil {
		return err
	}
	source, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr(o.api)))
	if err != nil {
		return fmt.Errorf("workload API: %w", err)
	}
	defer source.Close()
	me, err := source.GetX509SVID()
	if err != nil {
		return err
	}
	failed := func(err error) { p.log.Error("the last good state counts", "fault", err) }
	w := world.New(me.ID.TrustDomain(), failed)
	group, ctx := errgroup.WithContext(ctx)
	o.follow(ctx, group, p, w)
	if metrics != nil {
		group.Go(func() error { return p.tell(ctx, metrics) })
	}
	group.Go(func() error {
		first, err := o.self(ctx, w, p.log)
		if err != nil {
			return err
		}
		px := proxy.New(proxy.Config{
			Handler:  func(d stream.Dialer) stream.Handler { return p.requests.handler(first.Workload, w, d) },
			Workload: first.Workload, Identity: source, Resolver: w, Cluster: o.cluster, NameServer: p.nameServer, Drain: o.drain, Counts: p.counts, Log: p.log,
			Policy: func() proxy.Policy {
				s, _ := w.Snapshot()
				if now := s.Pod(o.pod); now != nil {
					return now.Policy
				}
				return first.Policy
			},
		})
		return px.Serve(ctx)
	})
	return group.Wait()
}

// self waits until this pod is known.
func (o *proxyOptions) self(ctx context.Context, w *world.World, log *slog.Logger) (*world.Pod, error) {
	for {
		s, changed := w.Snapshot()
		if p := s.Pod(o.pod); p != nil {
			return p, nil
		}
		if s.Known {
			log.Info("this pod is not known yet", "pod", o.pod)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		case <-time.After(10 * time.Second):
		}
	}
}
