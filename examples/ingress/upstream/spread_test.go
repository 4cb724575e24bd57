package upstream_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
)

// Every endpoint has its share of the requests, also over connections that are kept.
func TestSpread(t *testing.T) {
	t.Parallel()
	port := ""
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}, Spec: corev1.ServiceSpec{
		Ports: []corev1.ServicePort{{Name: "quic", Protocol: corev1.ProtocolUDP, Port: 80}, {Port: 80}}, // the number is there twice
	}}
	slice := func(name string) *discoveryv1.EndpointSlice {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(name)) }))
		t.Cleanup(s.Close)
		at := netip.MustParseAddrPort(s.Listener.Addr().String())
		number := int32(at.Port())
		return &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			Ports:      []discoveryv1.EndpointPort{{Name: &port, Port: &number}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{at.Addr().String()}}},
		}
	}
	set := upstream.NewSet(nil, []*corev1.Service{service}, []*discoveryv1.EndpointSlice{slice("a"), slice("b"), slice("c"), slice("d")})
	transport := upstream.NewTransport(nil)
	t.Cleanup(transport.Close)
	counts := map[string]int{}
	for range 400 {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://shop.example/", nil)
		require.NoError(t, err)
		response, err := transport.RoundTrip(r, set, route.Backend{Namespace: "shop", Service: "web", Port: "80"}, nil)
		require.NoError(t, err)
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		_ = response.Body.Close()
		counts[string(body)]++
	}
	require.Len(t, counts, 4)
	for name, n := range counts {
		require.InDelta(t, 100, n, 60, name)
	}
}
