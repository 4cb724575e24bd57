package servicetest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/service"
)

// retransmit is after how long TCP sends a first packet again (RFC 6298).
const retransmit = time.Second

func changeRows() []row {
	slices := func(s ...service.EndpointSlice) service.Changes { return service.Changes{EndpointSlices: s} }
	return []row{
		{
			name:  "an endpoint goes, all go, one comes",
			state: func(l *lab) service.State { return l.one(here1, far1) },
			check: func(t *testing.T, l *lab) {
				spreads(t, l.fromPod(), "tcp", l.vip(0, 80), here1, far1)
				l.update(t, slices(l.slice(0, far1)))
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), far1)
					spreads(t, from, "udp", l.vip(0, 80), far1)
				}
				l.update(t, slices(l.slice(0)))
				for _, from := range l.everywhere() {
					refuses(t, from, l.vip(0, 80))
				}
				l.update(t, slices(l.slice(0, here2)))
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here2)
					spreads(t, from, "udp", l.vip(0, 80), here2)
				}
			},
		},
		{
			name:  "a UDP client moves on when its endpoint goes",
			state: func(l *lab) service.State { return l.one(here1) },
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					l.update(t, slices(l.slice(0, here1)))
					flow, err := nstest.Dial(t, from.ns, "udp", l.vip(0, 80))
					if err != nil {
						t.Fatalf("from %s: %v", from.name, err)
					}
					for i, pods := range [][]string{{here1}, {far1}, {far1, here2}, {here2}, {}, {here1}} {
						l.update(t, slices(l.slice(0, pods...)))
						answeredBy(t, flow, from, fmt.Sprintf("change %d", i), pods...)
					}
				}
			},
		},
		{
			name:  "a running connection outlives changes around it",
			state: func(l *lab) service.State { return l.one(here1) },
			check: func(t *testing.T, l *lab) {
				for _, from := range l.everywhere() {
					l.update(t, slices(l.slice(0, here1)))
					flow, err := nstest.Dial(t, from.ns, "tcp", l.vip(0, 80))
					if err != nil {
						t.Fatalf("from %s: %v", from.name, err)
					}
					still := func(when string) {
						t.Helper()
						if a, err := flow.Ask(); err != nil || a.Server != here1 {
							t.Fatalf("from %s, %s: %+v, %v", from.name, when, a, err)
						}
					}
					still("at first")
					l.update(t, slices(l.slice(0, here1, here2, far1)))
					still("after endpoints came")
					l.update(t, service.Changes{Services: []service.Service{l.service(1)}, EndpointSlices: []service.EndpointSlice{l.slice(1, far1), l.slice(0, here1)}})
					still("after another Service came")
					l.sync(t, l.one(here1, far1))
					still("after a whole new State")
				}
			},
		},
		{
			name: "a Service comes and goes",
			state: func(l *lab) service.State {
				return l.world([]service.Service{l.service(0)}, l.slice(0, here1), l.slice(1, far1))
			},
			check: func(t *testing.T, l *lab) {
				swallows(t, l.vip(1, 80), l.everywhere()...)
				l.update(t, service.Changes{Services: []service.Service{l.service(1)}})
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(1, 80), far1)
				}
				l.update(t, service.Changes{DropServices: []service.Name{l.name(1)}})
				swallows(t, l.vip(1, 80), l.everywhere()...)
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), here1)
				}
			},
		},
		{
			name: "Services trade their addresses",
			state: func(l *lab) service.State {
				return l.world([]service.Service{l.service(0), l.service(1)}, l.slice(0, here1), l.slice(1, far1))
			},
			check: func(t *testing.T, l *lab) {
				a, b := l.service(0), l.service(1)
				a.Spec.ClusterIP, b.Spec.ClusterIP = b.Spec.ClusterIP, a.Spec.ClusterIP
				l.update(t, service.Changes{Services: []service.Service{a, b}})
				for _, from := range l.everywhere() {
					spreads(t, from, "tcp", l.vip(0, 80), far1)
					spreads(t, from, "tcp", l.vip(1, 80), here1)
				}
			},
		},
		{
			name:  "no connection fails while endpoints change",
			state: func(l *lab) service.State { return l.one(here1, here2) },
			check: func(t *testing.T, l *lab) {
				ctx, stop := context.WithCancel(t.Context())
				answered, failed := make(chan struct{}), make(chan error, 1)
				go func() {
					defer close(failed)
					for ctx.Err() == nil {
						start := time.Now()
						_, err := ask(l.fromPod().ns, "tcp", l.vip(0, 80))
						if took := time.Since(start); err == nil && took >= retransmit {
							err = fmt.Errorf("a connection took %v: a packet of it was lost", took)
						}
						if err != nil {
							failed <- err
							return
						}
						select {
						case answered <- struct{}{}:
						default: // nobody waits for it: on with the next
						}
					}
				}()
				sets := [][]string{{here1, here2}, {here2, far1}, {far1}, {here1, far1, far2}, {here1}, {far2, here1}}
				for i := range 150 { // connections go on while the Backend works
					l.update(t, slices(l.slice(0, sets[i%len(sets)]...)))
					select {
					case <-answered:
					case err := <-failed:
						stop()
						t.Fatalf("after %d changes: %v", i+1, err)
					}
				}
				stop()
				if err := <-failed; err != nil {
					t.Fatal(err)
				}
			},
		},
	}
}
