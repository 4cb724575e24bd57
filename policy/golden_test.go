package policy_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/policy"
)

// Each archive holds policies (one a line, as JSON) for the world of the other tests, packets ("front pg-0 TCP 5432"), and what becomes of
// them: the rules of node a, and the verdicts, which the rules and Evaluate agree upon.
func TestGolden(t *testing.T) {
	t.Parallel()
	golden.Cases(t, "testdata/compile/*.txtar", func(t *testing.T, c *golden.Case) {
		config := policy.Config{Node: "a"}
		if c.Has("config") {
			require.NoError(t, json.Unmarshal([]byte(c.File("config")), &config))
		}
		s := world(t)
		s.Domains = map[string][]netip.Addr{"www.example.com": {netip.MustParseAddr("192.0.2.9"), netip.MustParseAddr("2001:db8::9")}}
		for line := range strings.Lines(c.File("policies")) {
			addPolicy(t, &s, strings.TrimSpace(line))
		}
		r, err := config.Compile(s)
		require.NoError(t, err)
		all, err := policy.Compile(s) // the verdicts are of both nodes
		require.NoError(t, err)
		e := policy.NewEvaluator(s)
		var verdicts strings.Builder
		for line := range strings.Lines(c.File("packets")) {
			w := strings.Fields(line)
			var port uint16
			_, err := fmt.Sscan(w[3], &port)
			require.NoError(t, err)
			for i, src := range addresses[w[0]] {
				dst := addresses[w[1]][i]
				if src == "" || dst == "" {
					continue
				}
				p := policy.Packet{Protocol: policy.Protocol(w[2]), Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Port: port}
				v := e.Evaluate(p)
				require.Equal(t, v.Allowed, policy.Interpret(all, p), "%s: %s", p, v)
				fmt.Fprintf(&verdicts, "%s -> %s %s: %s\n", w[0], w[1], p, v)
			}
		}
		c.Want("verdicts", verdicts.String())
		c.Want("ruleset", r.String())
	})
}
