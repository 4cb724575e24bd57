package main_test

import (
	"context"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// What the policies deny stays denied when the program is gone, and what they allow stays allowed, through a Service too.
func TestPoliciesStay(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	stdout, _ := machine.Run(t, 0, "-keep")
	require.Contains(t, stdout, "50 go through and 22 are refused, as policy.Evaluate says")
	for _, tt := range []struct {
		from, to string
		answers  bool
	}{
		{"pod.default.pod-1", "10.244.2.4:80", false},
		{"pod.default.pod-3", "[fd00:10:244:2::4]:80", false}, // of its own node
		{"pod.default.pod-4", "10.244.1.5:8080", true},
		{"pod.default.pod-4", "[fd00:10:96::a]:80", true},
		{"node.node-b", "10.244.2.4:80", true},
		{"node.node-a", "[fd00:10:244:2::4]:80", false},
	} {
		ns, err := netns.OpenName("podplumb-" + machine.Name + "." + tt.from)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		_, err = container.Ask(ctx, ns.DialContext, netip.MustParseAddrPort(tt.to))
		cancel()
		ns.Close()
		if tt.answers {
			require.NoError(t, err, "%s -> %s", tt.from, tt.to)
		} else {
			require.ErrorIs(t, err, syscall.ECONNREFUSED, "%s -> %s", tt.from, tt.to)
		}
	}
	machine.Run(t, 0, "-down")
}
