package proxy

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// known are the pods of a cluster by their addresses.
type known map[netip.AddrPort]*stream.Workload

func (k known) Resolve(to netip.AddrPort) stream.Backend {
	return stream.Backend{Endpoints: []stream.Endpoint{{Address: to, Workload: k[to]}}}
}

func (known) Service(string, string, uint16, netip.Addr) (b stream.Backend, ok bool) { return b, false }

// Nothing is said in clear to an address of the cluster that nobody is known to have, whoever names it as an endpoint.
func TestDialUnknown(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		require.NoError(t, err)
		defer l.Close()
		at := l.Addr().(*net.TCPAddr).AddrPort()
		dial := func(c Config) error {
			if c.Workload == nil {
				c.Workload = &stream.Workload{}
			}
			conn, err := New(c).Dial(t.Context(), stream.Target{Address: at})
			if err == nil {
				_ = conn.Close()
			}
			return err
		}
		cluster := []netip.Prefix{netip.PrefixFrom(at.Addr(), at.Addr().BitLen())}
		require.ErrorIs(t, dial(Config{Resolver: known{}, Cluster: cluster}), errUnknown)
		require.NoError(t, dial(Config{Resolver: known{at: {}}, Cluster: cluster}), "it is known, and not in the mesh")
		require.NoError(t, dial(Config{Resolver: known{}, Cluster: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}), "it is outside")
		require.NoError(t, dial(Config{Resolver: known{}, Cluster: cluster, Workload: &stream.Workload{Addresses: []netip.Addr{at.Addr()}}}), "it is the pod's own")
	}
}

type closer struct{ closed *bool }

func (closer) ServeStream(context.Context, *stream.Stream) error { return nil }
func (c closer) Close()                                          { *c.closed = true }

// A proxy that never serves closes its Handler too.
func TestClose(t *testing.T) {
	t.Parallel()
	closed := false
	p := New(Config{Workload: &stream.Workload{}, Handler: func(stream.Dialer) stream.Handler { return closer{&closed} }})
	require.NoError(t, p.Close())
	require.True(t, closed)
}
