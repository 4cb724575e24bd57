package service_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/service"
	"github.com/podplumb/podplumb/service/servicetest"
)

// brokenEnv names the fault that TestNATConformance builds into its backend.
const brokenEnv = "PODPLUMB_BROKEN_BACKEND"

func TestNATConformance(t *testing.T) {
	nstest.Leaks(t)
	servicetest.Run(t, servicetest.Config{
		New: func(t testing.TB, node *netns.NS) service.Backend {
			b := service.NAT(natClient(t, node))
			if fault, ok := faults[os.Getenv(brokenEnv)]; ok {
				return brokenBackend{b, fault.apply}
			}
			return b
		},
	})
}

type brokenBackend struct {
	service.Backend
	apply func(ctx context.Context, b service.Backend, p service.Plan) error
}

func (b brokenBackend) Apply(ctx context.Context, p service.Plan) error {
	return b.apply(ctx, b.Backend, p)
}

// altered breaks every Frontend of a Plan.
func altered(f func(*service.Frontend)) func(context.Context, service.Backend, service.Plan) error {
	return func(ctx context.Context, b service.Backend, p service.Plan) error {
		set := make([]service.Frontend, len(p.Set))
		for i := range p.Set {
			set[i] = p.Set[i]
			f(&set[i])
		}
		return b.Apply(ctx, service.Plan{Full: p.Full, Set: set, Drop: p.Drop})
	}
}

// faults are ways in which a backend may go wrong, with the row of the suite that has to find each.
var faults = map[string]struct {
	row   string
	apply func(context.Context, service.Backend, service.Plan) error
}{
	"one endpoint of several": {"cluster IP spreads over endpoints of every node", altered(func(f *service.Frontend) { f.Endpoints = f.Endpoints[:min(1, len(f.Endpoints))] })},
	"no masquerade":           {"the node and outside are seen as the node", altered(func(f *service.Frontend) { f.Masquerade = service.MasqueradeHairpin })},
	"too much masquerade":     {"a pod is seen with its own address", altered(func(f *service.Frontend) { f.Masquerade = service.MasqueradeAll })},
	"silence for refusal":     {"no endpoints: refused at once", altered(func(f *service.Frontend) { f.Refusal = service.Drop })},
	"refusal for silence":     {"internalTrafficPolicy Local: only endpoints of this node, dropped when it has none", altered(func(f *service.Frontend) { f.Refusal = service.Reject })},
	"everything is TCP": {"cluster IP over UDP", altered(func(f *service.Frontend) {
		if f.Protocol == service.UDP {
			f.Protocol, f.Port = service.TCP, f.Port+1000
		}
	})},
	"range forgotten": {"an unallocated address of the service range: dropped", func(ctx context.Context, b service.Backend, p service.Plan) error {
		set := []service.Frontend{}
		for _, f := range p.Set {
			if f.Kind != service.KindUnallocated {
				set = append(set, f)
			}
		}
		return b.Apply(ctx, service.Plan{Full: p.Full, Set: set, Drop: p.Drop})
	}},
	"drops forgotten": {"a Service comes and goes", func(ctx context.Context, b service.Backend, p service.Plan) error {
		return b.Apply(ctx, service.Plan{Full: p.Full, Set: p.Set})
	}},
	"changes forgotten": {"an endpoint goes, all go, one comes", func(ctx context.Context, b service.Backend, p service.Plan) error {
		if !p.Full {
			return nil
		}
		return b.Apply(ctx, p)
	}},
	"break before make": {"no connection fails while endpoints change", func(ctx context.Context, b service.Backend, p service.Plan) error {
		if !p.Full {
			var first service.Plan
			for _, f := range p.Set {
				first.Drop = append(first.Drop, f.Key)
			}
			if err := b.Apply(ctx, first); err != nil {
				return err
			}
			time.Sleep(20 * time.Millisecond) // so that the gap is met on a busy machine too
		}
		return b.Apply(ctx, p)
	}},
	"no affinity":      {"session affinity: a client stays with its endpoint while it is there", altered(func(f *service.Frontend) { f.Affinity = 0 })},
	"endless affinity": {"session affinity ends when a client was silent for so long", altered(func(f *service.Frontend) { f.Affinity = time.Hour })},
	"open to all":      {"source ranges bind the load balancer's address, not the cluster IP", altered(func(f *service.Frontend) { f.Sources = nil })},
	"half a promise": {"externalTrafficPolicy Local: outside reaches local endpoints with its own address, near clients all", altered(func(f *service.Frontend) {
		f.Near, f.Masquerade = nil, min(f.Masquerade, service.MasqueradeHairpin)
	})},
	"near and far alike": {"externalTrafficPolicy Local: outside reaches local endpoints with its own address, near clients all", altered(func(f *service.Frontend) {
		if len(f.Near) > 0 {
			f.Endpoints, f.Near = f.Near, nil
		}
	})},
	"no localhost":                {"node ports on localhost", altered(func(f *service.Frontend) { f.Localhost = netip.Addr{} })},
	"node ports on every address": {"node ports on chosen addresses, and what a change of the choice does", altered(func(f *service.Frontend) { f.On = nil })},
}

// TestSuiteFindsFaults runs the suite against backends that are broken on purpose: each has to fail in the row that is about it.
func TestSuiteFindsFaults(t *testing.T) {
	nstest.Require(t, nstest.NFTables)
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // each runs in a process of its own, and mostly waits
			// In a pattern of go test a space reads as the underscore that subtests have in its place.
			cmd := exec.Command(os.Args[0], "-test.run", "^TestNATConformance$/^"+regexp.QuoteMeta(strings.ReplaceAll(fault.row, " ", "_"))+"$")
			cmd.Env = append(os.Environ(), brokenEnv+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			require.True(t, errors.As(err, &exit), "the suite is content: %v\n%s", err, out)
			require.Contains(t, string(out), "--- FAIL: TestNATConformance/"+strings.ReplaceAll(fault.row, " ", "_"))
		})
	}
}
