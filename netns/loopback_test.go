package netns_test

import (
	"context"
	"errors"
	"io/fs"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func TestLoopbackUp(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	nstest.Leaks(t)
	ns, err := netns.New()
	require.NoError(t, err)
	ctx := context.Background()
	for _, address := range []string{"127.0.0.1:9", "[::1]:9"} {
		_, err = ns.DialContext(ctx, "tcp", address)
		require.Error(t, err)
		require.Falsef(t, errors.Is(err, syscall.ECONNREFUSED), "%s answers before the device is up", address)
	}
	require.NoError(t, ns.LoopbackUp())
	require.NoError(t, ns.LoopbackUp(), "a second time")
	for _, address := range []string{"127.0.0.1:9", "[::1]:9"} {
		_, err = ns.DialContext(ctx, "tcp", address)
		require.ErrorIs(t, err, syscall.ECONNREFUSED)
	}
	require.NoError(t, ns.Close())
	require.ErrorIs(t, ns.LoopbackUp(), fs.ErrClosed)
}
