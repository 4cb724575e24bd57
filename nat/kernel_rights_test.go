//go:build linux

package nat_test

import (
	"context"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// Who is in the namespace needs no more than CAP_NET_ADMIN.
func TestNetAdminIsEnough(t *testing.T) {
	if os.Getenv(envInside) != "" {
		c, err := nat.New(nat.Config{})
		require.NoError(t, err)
		defer c.Close()
		want := nat.State{Networks: []nat.Network{{Prefix: netip.MustParsePrefix("10.1.0.0/16")}}}
		_, err = c.Sync(context.Background(), want)
		require.NoError(t, err)
		have, err := c.Read(context.Background())
		require.NoError(t, err)
		require.Equal(t, want, have)
		_, err = c.Sync(context.Background(), nat.State{})
		require.NoError(t, err)
		return
	}
	nstest.Require(t, nstest.NFTables)
	nstest.Require(t, nstest.Tool("setpriv"))
	ns := nstest.New(t)
	self, err := os.Executable()
	require.NoError(t, err)
	out, err := os.CreateTemp(t.TempDir(), "")
	require.NoError(t, err)
	defer out.Close()
	cmd := exec.Command("setpriv", "--bounding-set=-sys_admin", self, "-test.run", "^TestNetAdminIsEnough$")
	cmd.Env = append(os.Environ(), envInside+"=1")
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, ns.Start(cmd))
	err = cmd.Wait()
	text, _ := os.ReadFile(out.Name())
	require.NoError(t, err, "%s", text)
}

func TestClosedNamespace(t *testing.T) {
	nstest.Require(t, nstest.NFTables)
	ns, err := netns.New()
	require.NoError(t, err)
	require.NoError(t, ns.Close())
	_, err = nat.New(nat.Config{NetNS: ns})
	require.ErrorIs(t, err, fs.ErrClosed)
	_, err = nat.New(nat.Config{NetNS: &netns.NS{}})
	require.ErrorIs(t, err, fs.ErrInvalid)
}
