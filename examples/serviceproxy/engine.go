package main

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/podplumb/podplumb/service"
)

// source is where the objects come from.
type source interface {
	// run follows the objects until ctx is done, and tells the inbox of every change.
	run(ctx context.Context, in *inbox) error
	// ready is closed when all objects are known.
	ready() <-chan struct{}
	// state returns all objects and the settings that come from them. It may already have changes that the inbox is yet to
	// tell of.
	state() service.State
	// node returns the Node that this runs on; it may have no more than a name.
	node() service.Node
}

// engine brings the changes of a source to the Proxy, one after the other.
type engine struct {
	log       *slog.Logger
	options   options
	proxy     *service.Proxy
	source    source
	inbox     *inbox
	admission *admission
	health    *health
	checks    *checks
	metrics   *metrics

	anew     bool        // everything has to be taken from the source
	triggers []time.Time // of changes that the kernel does not follow yet
	unserved map[service.Key]bool
}

// run works until ctx is done. It leaves the kernel as it is before the source knows all objects: after a restart nothing
// is taken away that is still wanted.
func (e *engine) run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-e.source.ready():
	}
	e.anew = true
	ticker := time.NewTicker(e.options.sync)
	defer ticker.Stop()
	again := backoff{first: 100 * time.Millisecond, most: 30 * time.Second}
	retry := time.NewTimer(0) // the first turn is now
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.inbox.wake:
		case <-ticker.C:
		case <-retry.C:
		}
		begin := time.Now()
		switch err := e.turn(ctx); {
		case err == nil:
			again.reset()
			retry.Stop()
		case ctx.Err() != nil:
			return ctx.Err()
		default:
			wait := again.next()
			e.metrics.failures.Inc()
			e.log.Error("the kernel is behind the objects", "err", err, "again in", wait)
			retry.Reset(wait)
		}
		if rest := e.options.minSync - time.Since(begin); rest > 0 {
			sleep(ctx, rest)
		}
	}
}

// turn does what there is to do.
func (e *engine) turn(ctx context.Context) error {
	b := e.inbox.take()
	begin := time.Now()
	var err error
	if e.anew = e.anew || b.anew; e.anew {
		err = e.everything(ctx)
	} else {
		err = e.admission.update(ctx, e.update, e.admission.sound(b.changes()))
	}
	err = e.served(err)
	e.checks.follow(e.proxy.HealthChecks())
	e.metrics.turn(b, time.Since(begin), len(e.admission.refused)+len(e.unserved))
	e.triggers = append(e.triggers, b.triggers...)
	if err != nil {
		return err
	}
	e.metrics.upToDate(e.triggers)
	e.anew, e.triggers = false, e.triggers[:0]
	e.health.updated()
	return nil
}

// everything makes the kernel what the source says, whatever the Proxy knows.
func (e *engine) everything(ctx context.Context) error {
	e.admission.forget()
	clear(e.unserved)
	state, err := settle(ctx, e.options, e.admission, e.source.state())
	if err != nil {
		return err
	}
	plan, err := e.proxy.Sync(ctx, state)
	e.tell(plan)
	return err
}

// settle adds the settings of the command line to a State and takes the faulty objects out of it.
func settle(ctx context.Context, o options, a *admission, s service.State) (service.State, error) {
	s.PodRanges, s.NodePorts = o.clusterCIDRs, o.nodePorts
	s.MasqueradeAll, s.ProxyName = o.masqueradeAll, o.proxyName
	if len(o.serviceCIDRs) > 0 {
		s.ServiceRanges = o.serviceCIDRs
	}
	c := a.sound(service.Changes{Services: s.Services, EndpointSlices: s.EndpointSlices, Pods: s.Pods, Nodes: s.Nodes})
	s.Services, s.EndpointSlices, s.Pods, s.Nodes = c.Services, c.EndpointSlices, c.Pods, c.Nodes
	if err := s.Validate(); errors.Is(err, service.ErrConflict) {
		if s.Services, err = a.peaceful(ctx, s.Services); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (e *engine) update(ctx context.Context, c service.Changes) (service.Plan, error) {
	plan, err := e.proxy.Update(ctx, c)
	e.tell(plan)
	return plan, err
}

func (e *engine) tell(plan service.Plan) {
	for _, k := range plan.Drop {
		delete(e.unserved, k)
	}
	if !plan.Empty() && e.log.Enabled(context.Background(), slog.LevelDebug) {
		e.log.Debug("changed", "plan", plan.String())
	}
}

// served takes from an error what the backend does not serve at all: that is told once, and trying again would not help.
func (e *engine) served(err error) error {
	refusals, only := refusals(err)
	for _, r := range refusals {
		if !e.unserved[r.Key] {
			e.unserved[r.Key] = true
			e.log.Error("not served", "frontend", r.Key.String(), "service", r.Service.String(), "err", r.Err)
		}
	}
	if only {
		return nil
	}
	return err
}

// refusals returns the refusals of single Frontends in an error, and whether there is nothing else in it.
func refusals(err error) (list []*service.UnservedError, only bool) {
	switch e := err.(type) { //nolint:errorlint // it walks the tree itself
	case nil:
		return nil, true
	case *service.UnservedError:
		return []*service.UnservedError{e}, true
	case interface{ Unwrap() []error }:
		only = true
		for _, part := range e.Unwrap() {
			l, o := refusals(part)
			list, only = append(list, l...), only && o
		}
		return list, only
	case interface{ Unwrap() error }:
		if inner := e.Unwrap(); inner != nil {
			return refusals(inner)
		}
	}
	return nil, false
}

func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
