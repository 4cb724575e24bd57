package service_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/service"
)

func TestStrings(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]fmt.Stringer{
		"cluster-ip": service.KindClusterIP, "external-ip": service.KindExternalIP, "load-balancer": service.KindLoadBalancer,
		"node-port": service.KindNodePort, "unknown-port": service.KindUnknownPort, "unallocated": service.KindUnallocated, "kind(9)": service.Kind(9),
		"reject": service.Reject, "drop": service.Drop, "refusal(9)": service.Refusal(9),
		"hairpin": service.MasqueradeHairpin, "node": service.MasqueradeNode, "outside": service.MasqueradeOutside, "all": service.MasqueradeAll,
		"masquerade(9)": service.Masquerade(9), "http": service.PortRef{Name: "http", Number: 1}, "80": service.PortRef{Number: 80},
		"ClusterIP": service.TypeClusterIP, "TCP": service.TCP, "ClientIP": service.AffinityClientIP, "Local": service.PolicyLocal,
		"PreferClose": service.PreferClose, "IPv6": service.IPv6, "SingleStack": service.SingleStack, "VIP": service.ModeVIP, "FQDN": service.AddressFQDN,
		"cluster-ip 10.96.0.1:80/TCP": service.Key{Kind: service.KindClusterIP, Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: service.TCP},
		"node-port *6:80/UDP":         service.Key{Kind: service.KindNodePort, Addr: netip.IPv6Unspecified(), Port: 80, Protocol: service.UDP},
		"unallocated fd96::/112":      service.Key{Kind: service.KindUnallocated, Range: netip.MustParsePrefix("fd96::/112")},
		"default/web":                 service.Name{Namespace: "default", Name: "web"},
	} {
		require.Equal(t, want, v.String())
	}
	require.True(t, service.Key{Kind: service.KindUnallocated, Range: netip.MustParsePrefix("10.0.0.0/8")}.Is4())
	require.Equal(t, "+ cluster-ip 10.96.0.1:80/TCP -> reject\n- unknown-port 10.96.0.2\n", service.Plan{
		Set:  []service.Frontend{{Key: service.Key{Kind: service.KindClusterIP, Addr: netip.MustParseAddr("10.96.0.1"), Port: 80, Protocol: service.TCP}}},
		Drop: []service.Key{{Kind: service.KindUnknownPort, Addr: netip.MustParseAddr("10.96.0.2")}},
	}.String())
}

func TestPortRefJSON(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]service.PortRef{`80`: {Number: 80}, `"http"`: {Name: "http"}, `null`: {}, `""`: {}} {
		p := service.PortRef{Number: 1, Name: "old"}
		require.NoError(t, json.Unmarshal([]byte(text), &p))
		require.Equal(t, want, p, text)
	}
	for _, text := range []string{`1.5`, `"`, `{}`, `99999999999`} {
		var p service.PortRef
		require.Error(t, json.Unmarshal([]byte(text), &p), text)
	}
}

// TestClaimsMove lets Services pass on external addresses, node ports and cluster IPs, in one change and in several.
func TestClaimsMove(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	p := newProxy(t, &ledger{})
	with := func(name, ip, external string, port int32) service.Service {
		s := webService(name, ip)
		s.Spec.Type, s.Spec.ExternalIPs, s.Spec.Ports[0].NodePort = service.TypeNodePort, []string{external}, port
		return s
	}
	update := func(s ...service.Service) error {
		_, err := p.Update(ctx, service.Changes{Services: s})
		return err
	}
	require.NoError(t, update(with("a", "10.96.0.1", "198.51.100.1", 30001), with("b", "10.96.0.2", "198.51.100.2", 30002)))
	require.ErrorContains(t, update(with("c", "10.96.0.3", "198.51.100.1", 30003)), "spec.externalIPs: 198.51.100.1:80/TCP: conflict with services[default/a]")
	require.ErrorContains(t, update(with("c", "10.96.0.3", "198.51.100.3", 30002)), "spec.ports.nodePort: 30002/TCP: conflict with services[default/b]")
	require.ErrorContains(t, update(with("c", "198.51.100.1", "198.51.100.3", 30003)), "spec.clusterIPs: 198.51.100.1: conflict with services[default/a]")
	require.ErrorContains(t, update(with("c", "10.96.0.3", "10.96.0.1", 30003)), "spec.externalIPs: 10.96.0.1:80/TCP: conflict with services[default/a]")
	require.NoError(t, update(with("a", "10.96.0.2", "198.51.100.2", 30002), with("b", "10.96.0.1", "198.51.100.1", 30001)))
	_, err := p.Update(ctx, service.Changes{DropServices: []service.Name{{Namespace: "default", Name: "a"}}})
	require.NoError(t, err)
	require.NoError(t, update(with("c", "198.51.100.2", "10.96.0.2", 30002)))
	require.ErrorContains(t, update(with("d", "10.96.0.4", "198.51.100.1", 30004)), "conflict with services[default/b]")
	_, err = p.Sync(ctx, service.State{Services: []service.Service{with("d", "10.96.0.4", "198.51.100.1", 30004)}})
	require.NoError(t, err)
}

func TestNamespacesAreApart(t *testing.T) {
	t.Parallel()
	a, b := webService("web", "10.96.0.1"), webService("web", "10.96.0.2")
	b.Namespace = "other"
	pod := webPod("p", "web", "10.244.0.1")
	pod.Namespace = "other"
	got, err := service.Resolve(service.State{Services: []service.Service{b, a}, Pods: []service.Pod{webPod("p", "web", "10.244.0.2"), pod}}, nodeA)
	require.NoError(t, err)
	require.Equal(t, "cluster-ip 10.96.0.1:80/TCP default/web -> 10.244.0.2:8080 local\nunknown-port 10.96.0.1 default/web -> reject\n"+
		"cluster-ip 10.96.0.2:80/TCP other/web -> 10.244.0.1:8080 local\nunknown-port 10.96.0.2 other/web -> reject\n", lines(got))
}
