package conditions_test

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/conditions"
	"github.com/podplumb/podplumb/examples/internal/container"
)

// world is a network on loopback addresses, honest unless it is told to lie.
type world struct {
	pods, nodes []conditions.Host
	lie         func(answer *container.Answer) // changes what a pod says
}

// newWorld makes two pods and a node. Every address of 127/8 is local, so each can have one of its own.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	for i, name := range []string{"a", "b"} {
		addr := netip.AddrFrom4([4]byte{127, 0, 7, byte(i + 1)})
		listener, err := net.Listen("tcp", netip.AddrPortFrom(addr, 0).String())
		require.NoError(t, err)
		server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			answer := container.Answer{
				Pod: name, Addresses: []netip.Addr{addr},
				Client: netip.MustParseAddrPort(r.RemoteAddr),
				Server: r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr).AddrPort(),
			}
			if w.lie != nil {
				w.lie(&answer)
			}
			_ = json.NewEncoder(rw).Encode(answer)
		})}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { server.Close() })
		w.pods = append(w.pods, conditions.Host{Name: name, Dial: dialFrom(addr), Addrs: []netip.Addr{addr}, Port: uint16(listener.Addr().(*net.TCPAddr).Port)})
	}
	w.nodes = []conditions.Host{{Name: "node", Dial: dialFrom(netip.AddrFrom4([4]byte{127, 0, 7, 100}))}}
	return w
}

func dialFrom(addr netip.Addr) container.Dialer {
	dialer := &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, 0))}
	return dialer.DialContext
}

func (w *world) check(t *testing.T) []conditions.Result {
	t.Helper()
	results, _, err := conditions.Check(context.Background(), w.pods, w.nodes)
	require.NoError(t, err)
	require.Len(t, results, 4)
	for i, r := range results {
		require.Equal(t, i+1, r.Number)
	}
	return results
}

func TestHonestNetwork(t *testing.T) {
	t.Parallel()
	for _, r := range newWorld(t).check(t) {
		require.Truef(t, r.Holds(), "%d: %v", r.Number, r.Faults)
		require.NotEmpty(t, r.Evidence)
	}
}

// Each of these breaks conditions, and Check has to find out which.
func TestBrokenNetworks(t *testing.T) {
	t.Parallel()
	node := netip.MustParseAddr("127.0.7.100")
	tests := map[string]struct {
		spoil  func(*world)
		broken []int
		fault  string // of the first broken condition
	}{
		"sources are translated": {func(w *world) {
			w.lie = func(a *container.Answer) { a.Client = netip.AddrPortFrom(node, a.Client.Port()) }
		}, []int{2, 4}, "source translated: sent from 127.0.7."},
		"only ports are translated": {func(w *world) {
			w.lie = func(a *container.Answer) { a.Client = netip.AddrPortFrom(a.Client.Addr(), a.Client.Port()^1) }
		}, []int{2, 3}, "source translated: sent from 127.0.7."},
		"destinations are translated": {func(w *world) {
			w.lie = func(a *container.Answer) { a.Server = netip.AddrPortFrom(node, a.Server.Port()) }
		}, []int{2, 3}, "destination translated: arrived at 127.0.7.100"},
		"a node is translated": {func(w *world) {
			w.lie = func(a *container.Answer) {
				if a.Client.Addr() == node {
					a.Client = netip.MustParseAddrPort("127.0.7.200:1")
				}
			}
		}, []int{3}, "node -> a 127.0.7.1:"},
		"two pods have one address": {func(w *world) {
			w.pods[1].Addrs, w.pods[1].Port = w.pods[0].Addrs, w.pods[0].Port
		}, []int{1, 2, 3, 4}, "127.0.7.1 belongs to b, but a answered there"},
		"the wrong pod answers": {func(w *world) {
			w.lie = func(a *container.Answer) { a.Pod = "a" }
		}, []int{1, 2, 3, 4}, "127.0.7.2 belongs to b, but a answered there"},
		"a pod has another idea of its address": {func(w *world) {
			w.lie = func(a *container.Answer) { a.Addresses = []netip.Addr{netip.MustParseAddr("172.17.0.2")} }
		}, []int{4}, "a  says 172.17.0.2; 1 pod saw 127.0.7.1; reached at 127.0.7.1"},
		"a pod does not answer": {func(w *world) {
			w.pods[1].Dial = func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("cut off") }
			w.nodes[0].Dial = w.pods[1].Dial
		}, []int{1, 2, 3, 4}, "a did not answer at 127.0.7.1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			test.spoil(w)
			var broken []int
			for _, r := range w.check(t) {
				if !r.Holds() {
					if len(broken) == 0 {
						require.Truef(t, strings.Contains(r.Faults[0].Error(), test.fault), "%v", r.Faults)
					}
					broken = append(broken, r.Number)
				}
			}
			require.Equal(t, test.broken, broken)
		})
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, _, err := conditions.Check(ctx, w.pods, w.nodes)
	require.ErrorIs(t, err, context.Canceled)
}

// A large cluster is sampled: every pod asks and is asked, and the summary says so.
func TestSample(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var pods []conditions.Host
	for range 100 { // the same two pods in turn; only the counting is looked at
		pods = append(pods, w.pods...)
	}
	results, _, err := conditions.Check(context.Background(), pods, w.nodes)
	require.NoError(t, err)
	require.Contains(t, results[1].Summary, "400 connections between 400 pairs of pods, a sample of all 39800")
}
