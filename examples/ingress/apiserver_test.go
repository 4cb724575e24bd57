package main_test

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/podplumb/podplumb/examples/internal/apiserver"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// An API server that does not have the Gateway API: the Ingresses of our class are served and have our address in their status,
// those of others are left alone.
func TestIngressesOfAnAPIServer(t *testing.T) {
	t.Parallel()
	server := apiserver.New()
	front := httptest.NewServer(server)
	t.Cleanup(func() { server.Close(); front.CloseClientConnections(); front.Close() })
	client, err := kubernetes.NewForConfig(&rest.Config{Host: front.URL})
	require.NoError(t, err)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("hello from " + r.Host)) }))
	t.Cleanup(backend.Close)

	ctx := context.Background()
	port, ready, name := int32(backend.Listener.Addr().(*net.TCPAddr).Port), true, ""
	_, err = client.CoreV1().Services("shop").Create(ctx, &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = client.DiscoveryV1().EndpointSlices("shop").Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}}, AddressType: discoveryv1.AddressTypeIPv4,
		Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &port}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"127.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	for class, controller := range map[string]string{"ours": "podplumb.github.io/ingress", "theirs": "example.com/other"} {
		_, err = client.NetworkingV1().IngressClasses().Create(ctx, &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressClassSpec{Controller: controller}}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = client.NetworkingV1().Ingresses("shop").Create(ctx, &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: class}, Spec: networkingv1.IngressSpec{
			IngressClassName: &class, Rules: []networkingv1.IngressRule{{Host: class + ".example", IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}},
			}}}}}},
		}}, metav1.CreateOptions{})
		require.NoError(t, err)
	}

	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, clientcmd.WriteToFile(api.Config{
		Clusters: map[string]*api.Cluster{"c": {Server: front.URL}}, Contexts: map[string]*api.Context{"c": {Cluster: "c", AuthInfo: "u"}}, AuthInfos: map[string]*api.AuthInfo{"u": {}}, CurrentContext: "c",
	}, kubeconfig))
	_, stderr := run(t, "-kubeconfig", kubeconfig, "-http", "127.0.0.1:0", "-gateway-address", "127.9.9.9", "-address", "192.0.2.10,2001:db8::10", "-quiet")
	var address string
	kerneltest.Eventually(t, "the ingress listens", func() bool {
		found := regexp.MustCompile(`address=(127\.0\.0\.1:\d+)`).FindStringSubmatch(stderr.String())
		if found != nil {
			address = found[1]
		}
		return found != nil
	})
	ask := func(host string) int {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
		require.NoError(t, err)
		r.Host = host
		response, err := (&http.Client{Timeout: 10 * time.Second}).Do(r)
		require.NoError(t, err)
		_ = response.Body.Close()
		return response.StatusCode
	}
	kerneltest.Eventually(t, "the Ingress is served: "+stderr.String(), func() bool { return ask("ours.example") == http.StatusOK })
	require.Equal(t, http.StatusNotFound, ask("theirs.example"))
	status := func(name string) []networkingv1.IngressLoadBalancerIngress {
		i, err := client.NetworkingV1().Ingresses("shop").Get(ctx, name, metav1.GetOptions{})
		require.NoError(t, err)
		return i.Status.LoadBalancer.Ingress
	}
	kerneltest.Eventually(t, "the status has the addresses", func() bool {
		got := status("ours")
		return len(got) == 2 && got[0].IP == "192.0.2.10" && got[1].IP == "2001:db8::10"
	})
	require.Empty(t, status("theirs"))
	require.NotContains(t, stderr.String(), "the last good state counts", "what a server does not have is no fault")
}
