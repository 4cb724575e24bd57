package world_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/nat"
)

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {podplumb.github.io/mesh: enabled}}
---
apiVersion: v1
kind: Node
metadata: {name: node-a}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: Hostname, address: node-a}]}
---
apiVersion: v1
kind: Pod
metadata:
  name: web
  namespace: shop
  labels: {app: web}
  annotations:
    podplumb.github.io/mesh-permissive: 80, 9000-9002
    podplumb.github.io/mesh-allow: ns/shop/sa/* spiffe://cluster.local/ns/a/sa/b
    podplumb.github.io/mesh-allow.90: ns/shop/sa/db
    podplumb.github.io/mesh-exclude-inbound: "15020"
    podplumb.github.io/mesh-exclude-outbound: 25,110-143
spec:
  nodeName: node-a
  serviceAccountName: web
  containers: [{name: c, image: i, ports: [{name: http, containerPort: 8080}]}]
status: {podIP: 10.244.1.10, podIPs: [{ip: 10.244.1.10}, {ip: "fd00::10"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db, podplumb.github.io/mesh: disabled}}
spec: {nodeName: node-a, containers: [{name: c, image: i}]}
status: {podIP: 10.244.1.11}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: shop}
spec: {nodeName: node-a, hostNetwork: true, containers: [{name: c, image: i}]}
status: {podIP: 10.0.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: over, namespace: shop}
spec: {nodeName: node-a, containers: [{name: c, image: i}]}
status: {podIP: 10.244.1.12, phase: Succeeded}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: [10.96.0.10, "fd96::10"]
  externalIPs: [192.0.2.10]
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: http, appProtocol: http, nodePort: 30080}
  - {name: db, port: 3306, targetPort: 3306, appProtocol: mysql}
  - {name: any, port: 7000, targetPort: 7001}
  - {name: dns, port: 53, protocol: UDP}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{name: sql, port: 5432, appProtocol: grpc}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: db-1, namespace: shop, labels: {kubernetes.io/service-name: db}}
addressType: IPv4
ports: [{name: sql, port: 15432, protocol: TCP}]
endpoints:
- {addresses: [10.244.1.11], conditions: {ready: true}}
- {addresses: [10.244.1.13], conditions: {ready: false, serving: true, terminating: true}}
`

func follow(t *testing.T, text string) (w *world.World, replace func(string), fault func() error) {
	t.Helper()
	dir := t.TempDir()
	replace = func(text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o644))
		require.NoError(t, os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "all.yaml")))
	}
	replace(text)
	told := make(chan error, 100)
	w = world.New(spiffeid.RequireTrustDomainFromString("cluster.local"), func(err error) { told <- err })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.Follow(ctx, source.Directory(dir)) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	for {
		s, changed := w.Snapshot()
		if s.Known {
			break
		}
		<-changed
	}
	return w, replace, func() error {
		select {
		case err := <-told:
			return err
		case <-time.After(5 * time.Second):
			return nil
		}
	}
}

func TestResolve(t *testing.T) {
	t.Parallel()
	w, _, _ := follow(t, objects)
	at := netip.MustParseAddrPort
	endpoints := func(b stream.Backend) (list []string) {
		for _, e := range b.Endpoints {
			list = append(list, e.Address.String())
		}
		return list
	}
	for _, c := range []struct {
		to       string
		service  string
		protocol stream.Protocol
		want     []string
	}{
		{"10.96.0.10:80", "shop/web", stream.HTTP1, []string{"10.244.1.10:8080"}},
		{"[fd96::10]:80", "shop/web", stream.HTTP1, []string{"[fd00::10]:8080"}},
		{"192.0.2.10:80", "shop/web", stream.HTTP1, []string{"10.244.1.10:8080"}},
		{"10.0.0.1:30080", "shop/web", stream.HTTP1, []string{"10.244.1.10:8080"}},
		{"10.96.0.10:3306", "shop/web", stream.TCP, []string{"10.244.1.10:3306"}},
		{"10.96.0.10:7000", "shop/web", stream.Unknown, []string{"10.244.1.10:7001"}},
		{"10.96.0.10:81", "shop/web", stream.Unknown, nil},
		{"10.96.0.10:53", "shop/web", stream.Unknown, nil},
		{"10.96.0.11:5432", "shop/db", stream.HTTP2, []string{"10.244.1.11:15432"}},
		{"10.244.1.10:8080", "", stream.HTTP1, []string{"10.244.1.10:8080"}},
		{"10.244.1.11:15432", "", stream.HTTP2, []string{"10.244.1.11:15432"}},
		{"10.244.1.11:1", "", stream.Unknown, []string{"10.244.1.11:1"}},
		{"10.0.0.1:22", "", stream.Unknown, []string{"10.0.0.1:22"}},
	} {
		b := w.Resolve(at(c.to))
		name := ""
		if b.Service != nil {
			name = b.Service.String()
		}
		require.Equal(t, c.service, name, c.to)
		require.Equal(t, c.protocol, b.Protocol, c.to)
		require.Equal(t, c.want, endpoints(b), c.to)
	}
	web := w.Resolve(at("10.96.0.10:80")).Endpoints[0]
	require.Equal(t, stream.Target{Address: at("10.244.1.10:8080"), Peer: spiffeid.RequireFromString("spiffe://cluster.local/ns/shop/sa/web"), Protocol: stream.HTTP1}, web.Target(stream.HTTP1))
	db := w.Resolve(at("10.96.0.11:5432")).Endpoints[0]
	require.True(t, db.Target(stream.HTTP2).Peer.IsZero(), "it is not in the mesh")
	require.Equal(t, "spiffe://cluster.local/ns/shop/sa/default", db.Workload.ID.String())
	for _, to := range []string{"10.0.0.1:22", "10.244.1.12:80"} {
		require.Nil(t, w.Resolve(at(to)).Endpoints[0].Workload, to)
	}
	b, ok := w.Service("shop", "web", 80, netip.IPv6Unspecified())
	require.True(t, ok)
	require.Equal(t, []string{"[fd00::10]:8080"}, endpoints(b))
	b, ok = w.Service("shop", "db", 5432, netip.IPv6Unspecified())
	require.True(t, ok)
	require.Equal(t, []string{"10.244.1.11:15432"}, endpoints(b), "it has no other family")
	_, ok = w.Service("shop", "web", 81, netip.IPv4Unspecified())
	require.False(t, ok)
}

func TestPod(t *testing.T) {
	t.Parallel()
	w, replace, fault := follow(t, objects)
	s, changed := w.Snapshot()
	web := s.Pod("shop/web")
	require.True(t, web.Workload.Meshed)
	require.Equal(t, "web", web.Workload.ServiceAccount)
	require.Equal(t, []uint16{80, 9000, 9001, 9002}, web.Policy.Permissive)
	require.Equal(t, map[uint16][]string{
		0:  {"spiffe://cluster.local/ns/shop/sa/*", "spiffe://cluster.local/ns/a/sa/b"},
		90: {"spiffe://cluster.local/ns/shop/sa/db"},
	}, web.Policy.Allow)
	require.Equal(t, []nat.Ports{{First: 15020, Last: 15020}}, web.ExcludeInbound)
	require.Equal(t, []nat.Ports{{First: 25, Last: 25}, {First: 110, Last: 143}}, web.ExcludeOutbound)
	require.False(t, s.Pod("shop/db").Workload.Meshed)
	require.Nil(t, s.Pod("shop/host"))

	replace(strings.NewReplacer(
		"ns/shop/sa/* spiffe", "ns//sa spiffe", "mesh-allow.90", "mesh-allow.http", "15020", "0", "25,110-143", "143-110,x", "80, 9000-9002", "80,99999",
		"mesh: enabled", "mesh: yes-please",
	).Replace(objects))
	<-changed
	s, _ = w.Snapshot()
	web = s.Pod("shop/web")
	require.True(t, web.Workload.Meshed)
	require.Equal(t, []uint16{80}, web.Policy.Permissive)
	require.Equal(t, map[uint16][]string{0: {"spiffe://cluster.local/ns/a/sa/b"}}, web.Policy.Allow)
	require.Empty(t, web.ExcludeInbound)
	err := fault()
	for _, want := range []string{
		`Namespace shop: metadata.labels["podplumb.github.io/mesh"]: "yes-please" is neither enabled nor disabled`,
		`Pod shop/web: metadata.annotations["podplumb.github.io/mesh-permissive"]: "99999" is no port`,
		`metadata.annotations["podplumb.github.io/mesh-allow"]: "ns//sa"`,
		`metadata.annotations["podplumb.github.io/mesh-allow.http"]: is not podplumb.github.io/mesh-allow.PORT`,
		`metadata.annotations["podplumb.github.io/mesh-exclude-inbound"]: "0" is no port`,
		`"143-110" is no port`, `"x" is no port`,
	} {
		require.ErrorContains(t, err, want)
	}
	require.False(t, errors.Is(err, context.Canceled))
}
