package plugin_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// took is how long it takes to send half a megabyte. Each time to another port: programs that tests beside this one are about to start may
// keep the last listener open until they run.
func took(t *testing.T, from, to *netns.NS, host string) time.Duration {
	t.Helper()
	l, err := to.Listen(t.Context(), "tcp", net.JoinHostPort(host, "0"))
	require.NoError(t, err)
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(io.Discard, c)
			_ = c.Close()
		}
		done <- err
	}()
	begin := time.Now()
	c, err := from.DialContext(t.Context(), "tcp", l.Addr().String())
	require.NoError(t, err)
	_, err = c.Write(make([]byte, 1<<19))
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	require.NoError(t, <-done)
	require.NoError(t, c.Close())
	return time.Since(begin)
}

// TestShape limits a pod's traffic each way, in IPv4 and IPv6, and leaves that with chosen subnets alone.
func TestShape(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.outside(t)
	limits := config{"bandwidth": config{"ingressRate": 4_000_000, "ingressBurst": 400_000, "egressRate": 4_000_000, "egressBurst": 400_000}}
	limited := n.conf.with("runtimeConfig", limits)
	const least = 500 * time.Millisecond // half a megabyte at 4 Mbit/s takes twice as long
	p, free := n.pod(t), n.pod(t)
	p4, p6 := addrs(t, n.add(t, p, limited))
	n.ok(t, "ADD", free, nil)
	for _, x := range [][2]string{{p4, "10.88.0.1"}, {p6, "fd88::1"}} {
		require.Greater(t, took(t, n.ns, p.ns, x[0]), least, "towards the pod")
		require.Greater(t, took(t, p.ns, n.ns, x[1]), least, "from the pod")
	}
	chosen := limited.with("unshapedSubnets", []string{"10.88.0.1/32", "fd88::1/128"})
	q := n.pod(t)
	q4, q6 := addrs(t, n.add(t, q, chosen))
	n.ok(t, "CHECK", q, chosen)
	for _, x := range [][2]string{{q4, "10.88.0.1"}, {q6, "fd88::1"}} {
		require.Greater(t, took(t, free.ns, q.ns, x[0]), least, "towards the pod")
		unlimited := min(took(t, n.ns, q.ns, x[0]), took(t, n.ns, q.ns, x[0]), took(t, q.ns, n.ns, x[1]))
		require.Less(t, unlimited, least, "with a subnet that is not limited")
	}
	n.ok(t, "DEL", q, chosen)
	n.ok(t, "DEL", p, limited)
	require.NotContains(t, n.snapshot(t), "ifb")
}
