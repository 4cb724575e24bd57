package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

// ledger is a backend that keeps Frontends in memory.
type ledger struct {
	mu     sync.Mutex
	have   map[service.Key]service.Frontend
	applys int
	fail   error
	refuse service.Key
}

func (l *ledger) Apply(_ context.Context, p service.Plan) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.applys++
	if l.fail != nil {
		return l.fail
	}
	for _, f := range p.Set {
		if f.Key == l.refuse {
			return &service.UnservedError{Key: f.Key, Service: f.Service, Err: errors.ErrUnsupported}
		}
	}
	if p.Full || l.have == nil {
		l.have = map[service.Key]service.Frontend{}
	}
	for _, k := range p.Drop {
		delete(l.have, k)
	}
	for _, f := range p.Set {
		l.have[f.Key] = f
	}
	return nil
}

func (l *ledger) set(fail error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fail = fail
}

// owners says which Service has each cluster IP.
func (l *ledger) owners() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []string
	for k, f := range l.have {
		if k.Kind == service.KindClusterIP {
			list = append(list, f.Service.Name+"="+k.Addr.String())
		}
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

// shelf is a source that the test fills.
type shelf struct {
	known   chan struct{}
	mu      sync.Mutex
	objects service.State
}

func (s *shelf) run(ctx context.Context, _ *inbox) error { <-ctx.Done(); return ctx.Err() }
func (s *shelf) ready() <-chan struct{}                  { return s.known }
func (s *shelf) node() service.Node                      { return service.Node{Meta: service.Meta{Name: "n"}} }

func (s *shelf) state() service.State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects
}

type bench struct {
	*engine
	ledger *ledger
	shelf  *shelf
	log    *strings.Builder
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{ledger: &ledger{}, shelf: &shelf{known: make(chan struct{})}, log: &strings.Builder{}}
	log := slog.New(slog.NewTextHandler(b.log, nil))
	p, err := service.New(service.Config{Node: b.shelf.node(), Backend: b.ledger})
	require.NoError(t, err)
	m := newMetrics()
	o := defaults()
	o.sync = time.Hour
	h := &health{patience: time.Minute, metrics: m, now: time.Now}
	b.engine = &engine{
		log: log, options: o, proxy: p, source: b.shelf, inbox: newInbox(h.queued), admission: newAdmission(log), health: h, metrics: m, unserved: map[service.Key]bool{},
		checks: newChecks(log, h, func() ([]netip.Addr, error) { return nil, nil }), anew: true,
	}
	return b
}

func simple(name, ip string) *service.Service {
	return &service.Service{Meta: service.Meta{Namespace: "default", Name: name}, Spec: service.Spec{ClusterIP: ip, Ports: []service.Port{{Port: 80}}}}
}

// does takes in Services, nil for those that go, and makes a turn.
func (b *bench) does(t *testing.T, list map[string]*service.Service) error {
	t.Helper()
	b.inbox.put(func(batch *batch) {
		for name, s := range list {
			batch.services[service.Name{Namespace: "default", Name: name}] = s
		}
	})
	return b.turn(context.Background())
}

// Faulty objects, and such as claim what others have, stop nobody, get their turn, and are told of once.
func TestAdmission(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	older, younger := simple("older", "10.96.0.1"), simple("younger", "10.96.0.1")
	older.CreationTimestamp = time.Unix(1, 0)
	younger.CreationTimestamp = time.Unix(2, 0)
	b.shelf.objects.Services = []service.Service{*younger, *older, *simple("fine", "10.96.0.2"), *simple("faulty", "10.96.0")}
	require.NoError(t, b.turn(context.Background()))
	require.Equal(t, "fine=10.96.0.2 older=10.96.0.1", b.ledger.owners())
	require.Equal(t, 2.0, testutil.ToFloat64(b.metrics.refused))

	require.NoError(t, b.does(t, map[string]*service.Service{"also": simple("also", "10.96.0.3"), "faulty": simple("faulty", "10.96.0")}))
	require.Equal(t, "also=10.96.0.3 fine=10.96.0.2 older=10.96.0.1", b.ledger.owners())
	for _, name := range []string{"younger", "faulty"} {
		require.Equal(t, 1, strings.Count(b.log.String(), `object="Service default/`+name+`"`), b.log.String())
	}

	// Several at once of which some are in conflict; one becomes faulty and stays what it was.
	require.NoError(t, b.does(t, map[string]*service.Service{
		"a": simple("a", "10.96.0.4"), "b": simple("b", "10.96.0.2"), "c": simple("c", "10.96.0.5"), "fine": simple("fine", "10.96.0.999"),
	}))
	require.Equal(t, "a=10.96.0.4 also=10.96.0.3 c=10.96.0.5 fine=10.96.0.2 older=10.96.0.1", b.ledger.owners())

	// Those that had it go: the others get it.
	require.NoError(t, b.does(t, map[string]*service.Service{"older": nil, "fine": nil}))
	require.Equal(t, "a=10.96.0.4 also=10.96.0.3 b=10.96.0.2 c=10.96.0.5 younger=10.96.0.1", b.ledger.owners())
	require.Equal(t, 1.0, testutil.ToFloat64(b.metrics.refused), "only what is faulty by itself is left")
	require.NoError(t, b.does(t, map[string]*service.Service{"faulty": nil}))
	require.Zero(t, testutil.ToFloat64(b.metrics.refused))

	// Two trade addresses in one turn.
	require.NoError(t, b.does(t, map[string]*service.Service{"a": simple("a", "10.96.0.5"), "c": simple("c", "10.96.0.4")}))
	require.Contains(t, b.ledger.owners(), "a=10.96.0.5")
	require.Contains(t, b.ledger.owners(), "c=10.96.0.4")
}

func TestUnservedIsToldOnceAndDone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ledger.refuse = service.Key{Kind: service.KindClusterIP, Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: service.TCP}
	b.shelf.objects.Services = []service.Service{*simple("odd", "10.96.0.1"), *simple("fine", "10.96.0.2")}
	require.NoError(t, b.turn(context.Background()))
	require.NoError(t, b.does(t, map[string]*service.Service{"odd": simple("odd", "10.96.0.1")}))
	require.Equal(t, "fine=10.96.0.2", b.ledger.owners())
	require.Equal(t, 1, strings.Count(b.log.String(), "not served"))
	require.Equal(t, 1.0, testutil.ToFloat64(b.metrics.refused))
	require.NoError(t, b.does(t, map[string]*service.Service{"odd": nil}))
	require.Zero(t, testutil.ToFloat64(b.metrics.refused))
}

// A backend that fails is tried again until it works; later changes are not lost, and the time that it took is told.
func TestRetry(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.ledger.fail = errors.New("broken")
	b.shelf.objects.Services = []service.Service{*simple("one", "10.96.0.1")}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- b.run(ctx) }()
	time.Sleep(50 * time.Millisecond)
	require.Empty(t, b.ledger.owners(), "before the source is ready nothing is touched")
	close(b.shelf.known)
	eventually(t, func() bool { return testutil.ToFloat64(b.metrics.failures) >= 2 }, func() string { return "two failures" })
	b.shelf.mu.Lock() // as informers have it before they tell
	b.shelf.objects.Services = []service.Service{*simple("one", "10.96.0.1"), *simple("two", "10.96.0.2")}
	b.shelf.mu.Unlock()
	b.inbox.put(func(batch *batch) {
		batch.services[service.Name{Namespace: "default", Name: "two"}] = simple("two", "10.96.0.2")
		batch.triggers = append(batch.triggers, time.Now())
	})
	b.ledger.set(nil)
	eventually(t, func() bool { return b.ledger.owners() == "one=10.96.0.1 two=10.96.0.2" }, b.ledger.owners)
	eventually(t, func() bool {
		return testutil.CollectAndCount(b.metrics.programming) == 1 && testutil.ToFloat64(b.metrics.last) > 0
	}, func() string { return "metrics" })
	stop()
	require.ErrorIs(t, <-ended, context.Canceled)
}

// With --min-sync-period changes wait for each other.
func TestMinSyncPeriod(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.options.minSync = 300 * time.Millisecond
	close(b.shelf.known)
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() { _ = b.run(ctx) }()
	eventually(t, func() bool { return testutil.ToFloat64(b.metrics.last) > 0 }, func() string { return "the first turn" })
	begin := time.Now()
	for i := range 50 {
		b.inbox.put(func(batch *batch) {
			name := fmt.Sprintf("s-%d", i)
			batch.services[service.Name{Namespace: "default", Name: name}] = simple(name, netip.AddrFrom4([4]byte{10, 96, 1, byte(i + 1)}).String())
		})
		time.Sleep(2 * time.Millisecond)
	}
	eventually(t, func() bool { return strings.Count(b.ledger.owners(), "=") == 50 }, b.ledger.owners)
	b.ledger.mu.Lock()
	defer b.ledger.mu.Unlock()
	require.LessOrEqual(t, b.ledger.applys, 2+int(time.Since(begin)/b.options.minSync))
}

func TestHealth(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	h := &health{patience: time.Minute, metrics: newMetrics(), now: func() time.Time { return now }}
	asks := func(path string) (int, string) {
		w := httptest.NewRecorder()
		h.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		require.Equal(t, "application/json", w.Header().Get("Content-Type"))
		return w.Code, w.Body.String()
	}
	is := func(healthz, livez int) {
		t.Helper()
		got, _ := asks("/healthz")
		require.Equal(t, healthz, got)
		got, _ = asks("/livez")
		require.Equal(t, livez, got)
	}
	is(200, 200)
	h.updated()
	h.queued()
	now = now.Add(59 * time.Second)
	h.queued() // the oldest counts
	is(200, 200)
	now = now.Add(2 * time.Second)
	is(503, 503)
	_, body := asks("/healthz")
	require.Equal(t, `{"lastUpdated": "2026-01-02 03:04:05 +0000 UTC","currentTime": "2026-01-02 03:05:06 +0000 UTC", "nodeEligible": true}`, body)
	_, body = asks("/livez")
	require.Equal(t, `{"lastUpdated": "2026-01-02 03:04:05 +0000 UTC","currentTime": "2026-01-02 03:05:06 +0000 UTC"}`, body)
	h.updated()
	is(200, 200)
	h.eligible(false)
	is(503, 200)
	h.eligible(true)
	is(200, 200)
	require.Equal(t, 3.0, testutil.ToFloat64(h.metrics.healthz.WithLabelValues("503")))
}
