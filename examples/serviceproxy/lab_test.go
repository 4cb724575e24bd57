package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

func TestMain(m *testing.M) { os.Exit(kerneltest.Main(m, Run)) }

// lab is a node with pods behind a bridge, and a host outside that routes the Services' addresses to the node.
type lab struct {
	node, outside *netns.NS
	pods          []*netns.NS
}

// The node's name and addresses, and those of the others. Both families alike: index 0 is IPv4, 1 is IPv6.
const nodeName = "node-1"

var (
	nodeAddrs    = addrs("192.168.7.1", "fd07::1")
	outsideAddrs = addrs("192.168.7.2", "fd07::2")
)

const podPort = 8080

func addrs(texts ...string) []netip.Addr {
	list := make([]netip.Addr, len(texts))
	for i, text := range texts {
		list[i] = netip.MustParseAddr(text)
	}
	return list
}

// podAddr is the address of a pod, counted from 0.
func podAddr(pod, family int) netip.Addr {
	return addrs(fmt.Sprintf("10.244.0.%d", 10+pod), fmt.Sprintf("fd44::%d", 10+pod))[family]
}

func podName(pod int) string { return fmt.Sprintf("pod-%d", pod) }

// clusterIP is the n-th address of the service range.
func clusterIP(n, family int) netip.Addr {
	return addrs(fmt.Sprintf("10.96.%d.%d", n/250, 1+n%250), fmt.Sprintf("fd96::%x", n+1))[family]
}

func newLab(t testing.TB, pods int) *lab {
	t.Helper()
	kerneltest.Require(t)
	l := &lab{node: newNS(t), outside: newNS(t)}
	for key, value := range map[string]string{
		"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.default.rp_filter": "0",
	} {
		require.NoError(t, l.node.SetSysctl(key, value))
	}
	with := func(a netip.Addr, bits int) netip.Prefix { return netip.PrefixFrom(a, bits) }
	uplink := veth.Pair{
		Host: veth.Host{
			Name: "uplink", Addresses: []netip.Prefix{with(nodeAddrs[0], 24), with(nodeAddrs[1], 64)},
			Routes: []veth.Route{veth.DefaultVia(outsideAddrs[0]), veth.DefaultVia(outsideAddrs[1])},
		},
		Pod: veth.Pod{
			NetNS: l.outside.Path(), Name: "eth0", Addresses: []netip.Prefix{with(outsideAddrs[0], 24), with(outsideAddrs[1], 64)},
			Routes: []veth.Route{veth.DefaultVia(nodeAddrs[0]), veth.DefaultVia(nodeAddrs[1])},
		},
	}
	gateways := addrs("10.244.0.1", "fd44::1")
	state := veth.State{
		Bridges: []veth.Bridge{{Name: "cni0", Addresses: []netip.Prefix{with(gateways[0], 24), with(gateways[1], 64)}}},
		Pairs:   []veth.Pair{uplink},
	}
	for i := range pods {
		ns := newNS(t)
		l.pods = append(l.pods, ns)
		pod := veth.Pod{NetNS: ns.Path(), Name: "eth0", Addresses: []netip.Prefix{with(podAddr(i, 0), 32), with(podAddr(i, 1), 128)}}
		for _, g := range gateways {
			route := veth.DefaultVia(g)
			route.OnLink = true
			pod.Routes = append(pod.Routes, route)
		}
		state.Pairs = append(state.Pairs, veth.Pair{Host: veth.Host{Name: fmt.Sprintf("pod%d", i), Bridge: "cni0", Port: veth.Port{Hairpin: true}}, Pod: pod})
	}
	links, err := veth.New(veth.Config{NetNS: l.node})
	require.NoError(t, err)
	defer links.Close()
	_, err = links.Sync(context.Background(), state)
	require.NoError(t, err)
	for i, ns := range l.pods {
		serveTCP(t, ns, podName(i))
		serveUDP(t, ns, podName(i))
	}
	return l
}

var namespaces atomic.Int32

func newNS(t testing.TB) *netns.NS {
	t.Helper()
	ns, err := netns.Create(fmt.Sprintf("serviceproxy-test-%d-%d", os.Getpid(), namespaces.Add(1)))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, netns.Remove(ns.Name()))
		ns.Close()
	})
	require.NoError(t, ns.LoopbackUp())
	return ns
}

// serveTCP greets with its name and the client's address, then sends back what it gets.
func serveTCP(t testing.TB, ns *netns.NS, name string) {
	t.Helper()
	listener, err := ns.Listen(context.Background(), "tcp", fmt.Sprintf(":%d", podPort))
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				fmt.Fprintf(conn, "%s %s\n", name, conn.RemoteAddr())
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
}

func serveUDP(t testing.TB, ns *netns.NS, name string) {
	t.Helper()
	conn, err := ns.ListenPacket(context.Background(), "udp", fmt.Sprintf(":%d", podPort))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buffer := make([]byte, 256)
		for {
			_, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(fmt.Appendf(nil, "%s %s\n", name, from), from)
		}
	}()
}

// asked is what a server said.
type asked struct {
	server string
	client netip.Addr // as the server sees it
}

var (
	askTimeout = slow(5 * time.Second)
	waitBound  = slow(30 * time.Second)
)

// slow is longer where the processor is emulated, many times slower.
func slow(d time.Duration) time.Duration {
	if os.Getenv("PODPLUMB_IN_GUEST") == "1" {
		return 6 * d
	}
	return d
}

// open opens a connection and reads the greeting.
func open(ns *netns.NS, network string, to netip.AddrPort) (net.Conn, asked, error) {
	return openWithin(askTimeout, ns, network, to)
}

func openWithin(timeout time.Duration, ns *netns.NS, network string, to netip.AddrPort) (net.Conn, asked, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := ns.DialContext(ctx, network, to.String())
	if err != nil {
		return nil, asked{}, err
	}
	_ = conn.SetDeadline(time.Now().Add(timeout))
	if network == "udp" {
		_, err = conn.Write([]byte("?"))
	}
	var line string
	if err == nil {
		line, err = bufio.NewReader(conn).ReadString('\n')
	}
	if err != nil {
		conn.Close()
		return nil, asked{}, err
	}
	server, client, _ := strings.Cut(strings.TrimSpace(line), " ")
	seen, err := netip.ParseAddrPort(client)
	return conn, asked{server, seen.Addr().Unmap()}, err
}

func ask(ns *netns.NS, network string, to netip.AddrPort) (asked, error) {
	conn, answer, err := open(ns, network, to)
	if err == nil {
		conn.Close()
	}
	return answer, err
}

// reaches waits until connections to an address end at these servers, each of them, and nowhere else.
func reaches(t testing.TB, ns *netns.NS, network string, to netip.AddrPort, servers ...string) {
	t.Helper()
	var got map[string]int
	var err error
	eventually(t, func() bool {
		got, err = map[string]int{}, nil
		for range 12 * len(servers) {
			var answer asked
			if answer, err = ask(ns, network, to); err != nil {
				return false
			}
			got[answer.server]++
		}
		return slices.Equal(slices.Sorted(maps.Keys(got)), servers)
	}, func() string {
		return fmt.Sprintf("%s %s is answered by %v, %v, and not by %v", network, to, got, err, servers)
	})
}

// refused waits until connections to an address are turned away, or not answered.
func refused(t testing.TB, ns *netns.NS, to netip.AddrPort) {
	t.Helper()
	var answer asked
	eventually(t, func() bool {
		silence := slow(time.Second)
		conn, a, err := openWithin(silence, ns, "tcp", to)
		if err == nil {
			conn.Close()
		}
		answer = a
		return err != nil
	}, func() string { return fmt.Sprintf("%s is answered by %v", to, answer) })
}

func eventually(t testing.TB, done func() bool, what func() string) {
	t.Helper()
	deadline := time.Now().Add(waitBound)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", waitBound, what())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
