package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// Pods without IPv6 are in the mesh, also when questions to name servers are captured.
func TestWithoutIPv6(t *testing.T) {
	t.Parallel()
	bothModes(t, func(t *testing.T, m mode) {
		b := newBed(t, m, "web@a", "db@b", "-legacy@b")
		b.names = netip.MustParseAddrPort("192.0.2.53:53")
		for _, pod := range []string{"web", "db"} {
			require.NoError(t, b.net.Pod(pod).NS.Do(func() error {
				return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0)
			}))
		}
		b.echo("db", ":8080")
		b.enrol()
		b.listened("web", "db", 8080)
		b.reaches("web", b.at("db", 0, 8080), secret)
		b.fails("legacy", b.at("db", 0, 8080))
	})
}

// A pod whose proxy cannot open its ports is refused, rather than in clear, until it can.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "web@a", "-db@a")
	taken, err := b.net.Pod("web").NS.Listen(t.Context(), "tcp", "127.0.0.1:15001")
	require.NoError(t, err)
	defer taken.Close()
	b.publish()
	b.echo("db", ":8080")
	b.reaches("web", b.at("db", 0, 8080), "before")
	kerneltest.StartIn(t, b.net.Nodes[0].NS, "node", "-node", "node-a", "-f", filepath.Join(b.dir, "objects.yaml"),
		"-ca", filepath.Join(b.dir, "ca.json"), "-sockets", filepath.Join(b.dir, "s"), "-netns", b.prefix, "-cluster", b.ranges())
	answered := func() bool {
		c, err := b.dial("web", b.at("db", 1, 8080))
		if err != nil {
			return false
		}
		defer c.Close()
		_, err = says(c, "x")
		return err == nil
	}
	kerneltest.Eventually(t, "web is refused", func() bool { return !answered() })
	require.NoError(t, taken.Close())
	kerneltest.Eventually(t, "web is served", answered)
	greeting, own := b.reaches("web", b.at("db", 0, 8080), "after")
	require.NotEqual(t, own, greeting, "by its proxy")
}
