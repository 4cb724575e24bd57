package netns_test

import (
	"errors"
	"io/fs"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// A zero or nil handle is an error, never a crash.
func TestInvalidHandle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for _, ns := range []*netns.NS{nil, {}} {
		_, idErr := ns.ID()
		_, sysctlErr := ns.Sysctl("net.ipv4.ip_forward")
		_, dialErr := ns.DialContext(ctx, "tcp", "127.0.0.1:1")
		_, listenErr := ns.Listen(ctx, "tcp", "127.0.0.1:0")
		_, packetErr := ns.ListenPacket(ctx, "udp", "127.0.0.1:0")
		_, nsidErr := ns.NSID(ctx, ns)
		_, assignErr := ns.AssignNSID(ctx, ns, 1)
		for _, err := range []error{
			ns.Close(), ns.Do(func() error { return nil }), ns.Pin("/pin"), ns.Start(exec.Command("true")),
			ns.StartMounted(exec.Command("true")), ns.SetSysctl("net.ipv4.ip_forward", "1"),
			idErr, sysctlErr, dialErr, listenErr, packetErr, nsidErr, assignErr,
		} {
			var op *netns.OpError
			require.ErrorAs(t, err, &op)
			require.True(t, errors.Is(err, fs.ErrInvalid) || errors.Is(err, errors.ErrUnsupported), "%v", err)
		}
		require.Equal(t, -1, ns.Fd())
		require.Empty(t, ns.Path())
		require.Empty(t, ns.Name())
		require.False(t, ns.Equal(ns))
	}
}
