package main

import (
	"net/netip"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
)

// The proxy is killed and started again, the server is away meanwhile, and objects change: no connection notices, and only
// what is different is written.
func TestKilledUnderLoad(t *testing.T) {
	t.Parallel()
	l := newLab(t, 3)
	a := newAPI()
	a.set(apiNode(nodeAddrs...))
	var to []netip.AddrPort
	for n := range 50 {
		a.set(apiService(n))
		a.set(slices2(n, 0, 1)...)
		for family := range 2 {
			to = append(to, netip.AddrPortFrom(clusterIP(n, family), 80))
		}
	}
	args := []string{"--master", l.server(t, a), "--service-cidr", "10.96.0.0/16,fd96::/112"}
	p := start(t, l, args...)
	reaches(t, l.pods[2], "tcp", to[0], "pod-0", "pod-1")
	traffic := steady(t, []*netns.NS{l.pods[2], l.pods[0], l.node, l.outside}, to)
	traffic.progress(t, 200)
	before := ruleset(t, l.node)

	for range 2 {
		p.Signal(syscall.SIGKILL)
		require.Equal(t, -1, p.Wait(t))
		traffic.progress(t, 100)
		p = start(t, l, args...)
		traffic.progress(t, 100)
		unchanged(t, l.node, before)
	}

	// While it is dead, one Service gets other endpoints, and another one goes.
	p.Signal(syscall.SIGKILL)
	p.Wait(t)
	a.set(slices2(60, 2)...)
	a.set(apiService(60))
	p = start(t, l, args...)
	reaches(t, l.pods[2], "tcp", netip.AddrPortFrom(clusterIP(60, 1), 80), "pod-2")

	// It starts while nobody answers: what there is stays until the objects are known.
	p.Signal(syscall.SIGKILL)
	p.Wait(t)
	a.outage(true)
	a.drop(apiService(60))
	p = launch(t, l, args...)
	traffic.progress(t, 300)
	reaches(t, l.pods[2], "tcp", netip.AddrPortFrom(clusterIP(60, 0), 80), "pod-2")
	answers(t, l.node, "http://127.0.0.1:10256/livez", 200)
	a.outage(false)
	refused(t, l.pods[2], netip.AddrPortFrom(clusterIP(60, 0), 80))
	p.synced(t)
	require.Contains(t, p.Stderr(), "the API server does not answer")
	p.end(t)
	dry := kerneltest.StartIn(t, l.node, append(append(common(), args...), "--dry-run")...)
	require.Equal(t, 0, dry.Wait(t), dry.Stderr())
	require.Empty(t, dry.Stdout(), "nothing is left to do")
	traffic.progress(t, 100)
	traffic.unharmed(t)
}
