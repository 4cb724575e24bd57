package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podplumb/podplumb/veth"
)

func ptr[T any](v T) *T { return &v }

// apiService is a Service with a cluster IP of each family.
func apiService(n int) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("svc-%d", n)}, Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeClusterIP, ClusterIP: clusterIP(n, 0).String(), ClusterIPs: []string{clusterIP(n, 0).String(), clusterIP(n, 1).String()},
		IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}, SessionAffinity: corev1.ServiceAffinityNone,
		Ports: []corev1.ServicePort{{Name: "tcp", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(podPort)}},
	}}
}

// apiSlice is the EndpointSlice of one family of that Service.
func apiSlice(n, family int, pods ...int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: fmt.Sprintf("svc-%d-%d", n, family), Labels: map[string]string{discoveryv1.LabelServiceName: fmt.Sprintf("svc-%d", n)},
			Annotations: map[string]string{corev1.EndpointsLastChangeTriggerTime: time.Now().Format(time.RFC3339Nano)},
		},
		AddressType: []discoveryv1.AddressType{discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6}[family],
		Ports:       []discoveryv1.EndpointPort{{Name: ptr("tcp"), Port: ptr(int32(podPort)), Protocol: ptr(corev1.ProtocolTCP)}},
	}
	for _, pod := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{podAddr(pod, family).String()}, NodeName: ptr(nodeName)})
	}
	return s
}

func slices2(n int, pods ...int) []metav1.Object {
	return []metav1.Object{apiSlice(n, 0, pods...), apiSlice(n, 1, pods...)}
}

func apiNode(addrs ...netip.Addr) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}
	for _, a := range addrs {
		n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	return n
}

// server starts an API server on the lab's node.
func (l *lab) server(t testing.TB, a *api) string {
	t.Helper()
	listener, err := l.node.Listen(context.Background(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return a.serve(t, listener)
}

// An API server is followed through everything that watches go through.
func TestAPIServer(t *testing.T) {
	t.Parallel()
	for _, plain := range []bool{false, true} {
		t.Run(fmt.Sprintf("plain lists %v", plain), func(t *testing.T) {
			t.Parallel()
			l := newLab(t, 3)
			a := newAPI()
			a.plainLists = plain
			a.set(apiNode(nodeAddrs...), apiService(1))
			a.set(slices2(1, 0, 1)...)
			other, headless := apiService(7), apiService(8)
			other.Labels = map[string]string{"service.kubernetes.io/service-proxy-name": "another"}
			headless.Labels = map[string]string{"service.kubernetes.io/headless": ""}
			a.set(other, headless)
			a.set(slices2(7, 0)...)
			p := start(t, l, "--master", l.server(t, a), "--nodeport-addresses", "primary")
			at := func(n, family int) netip.AddrPort { return netip.AddrPortFrom(clusterIP(n, family), 80) }
			both := func(n int, servers ...string) {
				t.Helper()
				for family := range 2 {
					reaches(t, l.pods[2], "tcp", at(n, family), servers...)
				}
			}
			both(1, "pod-0", "pod-1")
			refused(t, l.pods[2], at(7, 0))

			before := p.metric(t, "kubeproxy_network_programming_duration_seconds_count")
			a.set(slices2(1, 2)...)
			both(1, "pod-2")
			require.Equal(t, before+2, p.metric(t, "kubeproxy_network_programming_duration_seconds_count"))

			// The history is cut while objects change, come and go: they are listed again.
			lists := a.count("list "+servicesPath) + a.count("watch "+servicesPath)
			a.outage(true)
			a.drop(apiService(1))
			a.drop(slices2(1)...)
			next := apiService(2) // it has the address of the one that went
			next.Spec.ClusterIP, next.Spec.ClusterIPs = clusterIP(1, 0).String(), []string{clusterIP(1, 0).String(), clusterIP(1, 1).String()}
			a.set(next)
			a.set(slices2(2, 0)...)
			both(1, "pod-2") // what was known goes on to be served
			a.cut()
			a.outage(false)
			both(1, "pod-0")
			require.Greater(t, a.count("list "+servicesPath)+a.count("watch "+servicesPath), lists)
			answers(t, l.node, "http://127.0.0.1:10256/healthz", 200)

			// A Service is handed to another proxy, and back.
			next = next.DeepCopy()
			next.Labels = other.Labels
			a.set(next)
			refused(t, l.pods[2], at(1, 0))
			next = next.DeepCopy()
			next.Labels = nil
			a.set(next)
			both(1, "pod-0")

			// Ranges of cluster IPs come and change; addresses in them that no Service has are dropped, and not sent on.
			state := func() string { return ruleset(t, l.node) }
			a.set(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/16", "fd96::/112"}}})
			eventually(t, func() bool {
				return strings.Contains(state(), "10.96.0.0/16") && strings.Contains(state(), "fd96::/112")
			}, state)
			a.set(&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/17"}}})
			eventually(t, func() bool {
				return strings.Contains(state(), "10.96.0.0/17") && !strings.Contains(state(), "fd96::/112")
			}, state)
			both(1, "pod-0")
		})
	}
}

// The node's own object says where node ports are served, and whether load balancers shall come.
func TestNodeChanges(t *testing.T) {
	t.Parallel()
	l := newLab(t, 2)
	a := newAPI()
	svc := apiService(1)
	svc.Spec.Type, svc.Spec.Ports[0].NodePort = corev1.ServiceTypeNodePort, 30080
	a.set(apiNode(nodeAddrs...), svc)
	a.set(slices2(1, 0)...)
	p := start(t, l, "--master", l.server(t, a), "--nodeport-addresses", "primary", "--count-connections")
	more := addrs("192.168.8.1", "fd08::1")
	links, err := veth.New(veth.Config{NetNS: l.node, Owner: "more"})
	require.NoError(t, err)
	defer links.Close()
	_, err = links.Sync(context.Background(), veth.State{Bridges: []veth.Bridge{{Name: "more", Addresses: []netip.Prefix{netip.PrefixFrom(more[0], 24), netip.PrefixFrom(more[1], 64)}}}})
	require.NoError(t, err)
	for family := range 2 {
		reaches(t, l.outside, "tcp", netip.AddrPortFrom(nodeAddrs[family], 30080), "pod-0")
		refused(t, l.outside, netip.AddrPortFrom(more[family], 30080))
	}
	for family, frontend := range []string{"node-port *4:30080/TCP", "node-port *6:30080/TCP"} {
		endpoint := netip.AddrPortFrom(podAddr(0, family), podPort)
		labels := fmt.Sprintf(`endpoint=%q,frontend=%q,namespace="default",port="tcp",service="svc-1"`, endpoint, frontend)
		require.EqualValues(t, 12, p.metric(t, "podplumb_service_connections_total{"+labels+"}"))
	}
	a.set(apiNode(more...))
	for family := range 2 {
		reaches(t, l.outside, "tcp", netip.AddrPortFrom(more[family], 30080), "pod-0")
		refused(t, l.outside, netip.AddrPortFrom(nodeAddrs[family], 30080))
	}
	going := apiNode(more...)
	going.Spec.Taints = []corev1.Taint{{Key: toBeDeleted, Effect: corev1.TaintEffectNoSchedule}}
	a.set(going)
	body, _ := answers(t, l.outside, "http://[fd07::1]:10256/healthz", 503)
	require.Contains(t, body, `"nodeEligible": false`)
	answers(t, l.outside, "http://192.168.7.1:10256/livez", 200)
	a.set(apiNode(more...))
	answers(t, l.outside, "http://192.168.7.1:10256/healthz", 200)
}
