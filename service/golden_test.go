package service_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/service"
)

// TestResolve runs every case of testdata/resolve: a State and a node in JSON, and the Frontends, health checks or the
// error that come of them.
func TestResolve(t *testing.T) {
	t.Parallel()
	golden.Cases(t, "testdata/resolve/*.txtar", func(t *testing.T, c *golden.Case) {
		var s service.State
		decode(t, c.File("state.json"), &s)
		var n service.Node
		decode(t, c.File("node.json"), &n)
		got, err := service.Resolve(s, n)
		if err != nil {
			require.Empty(t, got)
			c.Want("error", err.Error())
			return
		}
		c.Want("frontends", lines(got))
		checks, err := service.HealthChecks(s, n)
		require.NoError(t, err)
		if len(checks) > 0 || c.Has("health") {
			var text strings.Builder
			for _, h := range checks {
				fmt.Fprintf(&text, "%s :%d %d\n", h.Service, h.Port, h.Local)
			}
			c.Want("health", text.String())
		}
	})
}

// TestDiff runs every case of testdata/diff: two States and the Plan between their Frontends, as a person reads it.
func TestDiff(t *testing.T) {
	t.Parallel()
	golden.Cases(t, "testdata/diff/*.txtar", func(t *testing.T, c *golden.Case) {
		node := service.Node{Meta: service.Meta{Name: "a"}}
		var have, want service.State
		decode(t, c.File("have.json"), &have)
		decode(t, c.File("want.json"), &want)
		from, err := service.Resolve(have, node)
		require.NoError(t, err)
		to, err := service.Resolve(want, node)
		require.NoError(t, err)
		c.Want("plan", service.Diff(from, to).String())
		require.True(t, service.Diff(to, to).Empty())
	})
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(into))
}

func lines(list []service.Frontend) string {
	var b strings.Builder
	for _, f := range list {
		b.WriteString(f.String() + "\n")
	}
	return b.String()
}
