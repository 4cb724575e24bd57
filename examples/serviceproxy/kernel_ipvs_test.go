package main

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/ipvs"
)

// The other backend follows a directory as well, and leaves nothing behind when it is told to.
func TestIPVS(t *testing.T) {
	probe, err := ipvs.New(ipvs.Config{Owns: ipvs.Everything()})
	if err == nil {
		err = probe.Close()
	}
	kerneltest.Needs(t, "ipvs", err)
	l := newLab(t, 3)
	dir := t.TempDir()
	write(t, dir, "one.yaml", serviceText(1, "")+sliceText(1, 0, 1))
	p := launch(t, l, "--manifests", dir, "--service-cidr", "10.96.0.0/16,fd96::/112", "--backend", "ipvs")
	both := func(n int, servers ...string) {
		t.Helper()
		for family := range 2 {
			for _, network := range []string{"tcp", "udp"} {
				reaches(t, l.pods[2], network, netip.AddrPortFrom(clusterIP(n, family), 80), servers...)
			}
		}
	}
	both(1, "pod-0", "pod-1")
	write(t, dir, "one.yaml", serviceText(1, "")+sliceText(1, 1))
	both(1, "pod-1")
	write(t, dir, "one.yaml", serviceText(1, "")+sliceText(1))
	refused(t, l.pods[2], netip.AddrPortFrom(clusterIP(1, 0), 80))
	write(t, dir, "one.yaml", serviceText(1, "")+sliceText(1, 0))
	both(1, "pod-0")
	p.end(t)
	both(1, "pod-0")

	node, err := ipvs.New(ipvs.Config{NetNS: l.node, Owns: ipvs.Everything()})
	require.NoError(t, err)
	defer node.Close()
	have, err := node.Read(t.Context())
	require.NoError(t, err)
	require.Len(t, have.Services, 4)
	require.Equal(t, 0, kerneltest.StartIn(t, l.node, "--cleanup", "--hostname-override", "node-a").Wait(t))
	have, err = node.Read(t.Context())
	require.NoError(t, err)
	require.Empty(t, have.Services)
	ranges, err := node.Ranges(t.Context())
	require.NoError(t, err)
	require.Empty(t, ranges)
}
