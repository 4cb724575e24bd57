package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"

	"github.com/podplumb/podplumb/service"
)

// admission keeps faulty objects away from the Proxy, which refuses a change whole: one of them must not stop the others.
// What an object was before it became faulty stays in force.
type admission struct {
	log *slog.Logger
	// refused says why, by kind and name. What is in it has been told.
	refused map[string]string
	// waiting are Services that claim what another one has. They are tried again whenever a Service changes.
	waiting map[service.Name]service.Service
}

func newAdmission(log *slog.Logger) *admission {
	return &admission{log: log, refused: map[string]string{}, waiting: map[service.Name]service.Service{}}
}

// sound drops from c what is faulty by itself.
func (a *admission) sound(c service.Changes) service.Changes {
	c.Services = sift(a, "Service", c.Services, func(s *service.Service) service.Name { return s.Key() }, func(l []service.Service) service.Changes { return service.Changes{Services: l} })
	c.EndpointSlices = sift(a, "EndpointSlice", c.EndpointSlices, func(s *service.EndpointSlice) service.Name { return s.Key() }, func(l []service.EndpointSlice) service.Changes { return service.Changes{EndpointSlices: l} })
	c.Pods = sift(a, "Pod", c.Pods, func(p *service.Pod) service.Name { return p.Key() }, func(l []service.Pod) service.Changes { return service.Changes{Pods: l} })
	c.Nodes = sift(a, "Node", c.Nodes, func(n *service.Node) service.Name { return n.Key() }, func(l []service.Node) service.Changes { return service.Changes{Nodes: l} })
	for _, n := range c.DropServices {
		delete(a.waiting, n)
		a.admit("Service", n)
	}
	for _, n := range c.DropEndpointSlices {
		a.admit("EndpointSlice", n)
	}
	for _, n := range c.DropPods {
		a.admit("Pod", n)
	}
	for _, n := range c.DropNodes {
		a.admit("Node", service.Name{Name: n})
	}
	for _, s := range c.Services {
		delete(a.waiting, s.Key())
	}
	return c
}

// sift returns the objects without the faulty ones.
func sift[T any](a *admission, kind string, list []T, name func(*T) service.Name, alone func([]T) service.Changes) []T {
	if alone(list).Validate() == nil {
		for i := range list {
			a.admit(kind, name(&list[i]))
		}
		return list
	}
	return slices.DeleteFunc(list, func(object T) bool {
		err := alone([]T{object}).Validate()
		if err != nil {
			a.refuse(kind, name(&object), err)
			return true
		}
		a.admit(kind, name(&object))
		return false
	})
}

// refuse tells of a faulty object, once.
func (a *admission) refuse(kind string, n service.Name, err error) {
	key := kind + " " + n.String()
	if a.refused[key] != err.Error() {
		a.refused[key] = err.Error()
		a.log.Error("passed over", "object", key, "err", err)
	}
}

func (a *admission) admit(kind string, n service.Name) {
	if len(a.refused) > 0 {
		delete(a.refused, kind+" "+n.String())
	}
}

// forget begins anew.
func (a *admission) forget() {
	clear(a.refused)
	clear(a.waiting)
}

// updater is what a Proxy does with a change.
type updater func(context.Context, service.Changes) (service.Plan, error)

// update hands c to the Proxy. Services that claim what others have wait; the rest is done.
func (a *admission) update(ctx context.Context, update updater, c service.Changes) error {
	if len(c.Services)+len(c.DropServices) > 0 && len(a.waiting) > 0 {
		tried := a.waiting
		a.waiting = map[service.Name]service.Service{}
		for _, s := range tried {
			c.Services = append(c.Services, s)
		}
		defer func() {
			for n := range tried {
				if _, still := a.waiting[n]; !still {
					a.admit("Service", n)
				}
			}
		}()
	}
	_, err := update(ctx, c)
	if !errors.Is(err, service.ErrConflict) {
		return err
	}
	list := c.Services
	c.Services = nil
	_, err = update(ctx, c)
	slices.SortFunc(list, func(x, y service.Service) int { // the elder has the better claim
		return cmp.Or(x.CreationTimestamp.Compare(y.CreationTimestamp), cmp.Compare(x.Key().String(), y.Key().String()))
	})
	return errors.Join(err, a.halves(ctx, update, list))
}

// halves finds the Services in conflict with few calls.
func (a *admission) halves(ctx context.Context, update updater, list []service.Service) error {
	_, err := update(ctx, service.Changes{Services: list})
	switch {
	case !errors.Is(err, service.ErrConflict):
		return err
	case len(list) == 1:
		a.waiting[list[0].Key()] = list[0]
		a.refuse("Service", list[0].Key(), err)
		return nil
	}
	half := len(list) / 2
	return errors.Join(a.halves(ctx, update, list[:half]), a.halves(ctx, update, list[half:]))
}

// peaceful returns the Services without those in conflict.
func (a *admission) peaceful(ctx context.Context, list []service.Service) ([]service.Service, error) {
	scratch, err := service.New(service.Config{Backend: nowhere{}})
	if err != nil {
		return nil, err
	}
	if err := a.update(ctx, scratch.Update, service.Changes{Services: list}); err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(list), func(s service.Service) bool {
		_, waits := a.waiting[s.Key()]
		return waits
	}), nil
}

// nowhere is a Backend that does nothing.
type nowhere struct{}

func (nowhere) Apply(context.Context, service.Plan) error { return nil }
