package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// serveUDP answers each datagram with a name and the address that it comes from.
func serveUDP(t testing.TB, ns *netns.NS, address, name string) {
	t.Helper()
	c, err := ns.ListenPacket(t.Context(), "udp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 100)
		for {
			_, from, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(fmt.Appendf(nil, "%s %s", name, from.(*net.UDPAddr).AddrPort().Addr().Unmap()), from)
		}
	}()
}

// dialUDP connects a socket of UDP, which keeps its port.
func dialUDP(t testing.TB, from *netns.NS, address string) net.Conn {
	t.Helper()
	c, err := from.DialContext(t.Context(), "udp", address)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// probe sends datagrams until enough says that what came back, an answer or an error, is what is waited for.
func probe(t testing.TB, c net.Conn, enough func(answer string, err error) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // a connection without an answer is remembered for 30
	defer cancel()
	b := make([]byte, 100)
	var last string
	var fault error
	for ctx.Err() == nil {
		_, _ = c.Write([]byte("?"))
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := c.Read(b)
		if last, fault = string(b[:n]), err; enough(last, err) {
			return
		}
	}
	require.FailNow(t, "not what was waited for", "%q, %v", last, fault)
}

func answers(want string) func(string, error) bool {
	return func(answer string, _ error) bool { return answer == want }
}

func someone(answer string, _ error) bool { return answer != "" }

func isRefused(_ string, err error) bool { return errors.Is(err, syscall.ECONNREFUSED) }

// TestUDPPorts reaches host ports of UDP from everywhere. What conntrack remembers of a port goes with ADD and with DEL, so that clients
// that keep their socket are not led to where the port led before.
func TestUDPPorts(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	world := n.outside(t)
	a, b := n.pod(t), n.pod(t)
	n.ok(t, "ADD", n.pod(t), n.conf.with("runtimeConfig", ports(9, 9, "udp"))) // from here on connections are tracked
	published := n.conf.with("runtimeConfig", ports(8053, 53, "udp"))

	families := []struct{ node, outside, loopback string }{{node4, outside4, "127.0.0.1"}, {node6, outside6, "::1"}}
	var keep []net.Conn
	for _, x := range families {
		keep = append(keep, dialUDP(t, world, on(x.node, 8053)))
	}
	for _, c := range keep { // an entry without translation
		probe(t, c, isRefused)
	}
	for i, name := range []string{"first", "second"} {
		p := []*pod{a, b}[i]
		v4, v6 := addrs(t, n.add(t, p, published))
		for j, own := range []string{v4, v6} {
			x := families[j]
			serveUDP(t, p.ns, on(own, 53), name)
			probe(t, keep[j], answers(name+" "+x.outside))
			probe(t, dialUDP(t, n.ns, on(x.node, 8053)), someone)
			probe(t, dialUDP(t, n.ns, on(x.loopback, 8053)), someone)
			probe(t, dialUDP(t, p.ns, on(x.node, 8053)), someone)
		}
		n.ok(t, "DEL", p, published)
		for _, c := range keep { // nobody is there, rather than silence from where the first was
			probe(t, c, isRefused)
		}
	}
}

// TestWhoIsMasqueraded has the pod see the node's address instead of the client's with masqAll, and loopback addresses without host ports
// with snat off.
func TestWhoIsMasqueraded(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	world := n.outside(t)
	all, off := n.pod(t), n.pod(t)
	all4, all6 := addrs(t, n.add(t, all, n.conf.with("masqAll", true).with("runtimeConfig", ports(8080, 80, "tcp"))))
	off4, off6 := addrs(t, n.add(t, off, n.conf.with("snat", false).with("runtimeConfig", ports(8081, 80, "tcp"))))
	for _, x := range []struct{ all, off, gateway, node, outside, loopback string }{
		{all4, off4, "10.88.0.1", node4, outside4, "127.0.0.1"}, {all6, off6, "fd88::1", node6, outside6, "::1"},
	} {
		serve(t, all.ns, on(x.all, 80))
		serve(t, off.ns, on(x.off, 80))
		require.Equal(t, x.gateway, ask(t, world, on(x.node, 8080)))
		require.Equal(t, x.outside, ask(t, world, on(x.node, 8081)))
		require.NotEmpty(t, ask(t, off.ns, on(x.node, 8081)), "the pod itself")
		require.NotEmpty(t, ask(t, n.ns, on(x.node, 8081)), "the node")
		require.NotEmpty(t, ask(t, n.ns, on(x.loopback, 8080)))
	}
}
