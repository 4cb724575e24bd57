package conformance

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"github.com/podplumb/podplumb/examples/internal/apiserver"
)

// Cluster is a running cluster.
type Cluster struct {
	Config *rest.Config
	Client kubernetes.Interface

	t    testing.TB
	next netip.Addr // for a pod
	mu   sync.Mutex
	pods map[string]*pod // by namespace/name
}

// Start starts a cluster that ends with the test. The definitions are those in a directory; pods are given addresses from first on.
func Start(t testing.TB, definitions string, first netip.Addr) *Cluster {
	t.Helper()
	server := apiserver.New()
	files, err := filepath.Glob(filepath.Join(definitions, "*.yaml"))
	require.NoError(t, err)
	for _, name := range files {
		text, err := os.ReadFile(name)
		require.NoError(t, err)
		if strings.Contains(string(text), "kind: CustomResourceDefinition") {
			require.NoError(t, server.AddDefinition(text), name)
		}
	}
	c := &Cluster{t: t, next: first, pods: map[string]*pod{}}
	server.Logs = c.logs
	front := httptest.NewServer(server)
	c.Config = &rest.Config{Host: front.URL, QPS: -1}
	c.Client, err = kubernetes.NewForConfig(c.Config)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.control(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
		server.Close()
		front.CloseClientConnections()
		front.Close()
		for _, p := range c.pods {
			p.close()
		}
	})
	return c
}

// control brings pods and EndpointSlices up to date with every change.
func (c *Cluster) control(ctx context.Context) {
	factory := informers.NewSharedInformerFactory(c.Client, 0)
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	handler := cache.ResourceEventHandlerFuncs{AddFunc: func(any) { tell() }, UpdateFunc: func(any, any) { tell() }, DeleteFunc: func(any) { tell() }}
	for _, informer := range []cache.SharedIndexInformer{factory.Apps().V1().Deployments().Informer(), factory.Core().V1().Services().Informer()} {
		_, err := informer.AddEventHandler(handler)
		require.NoError(c.t, err)
	}
	deployments, services := factory.Apps().V1().Deployments().Lister(), factory.Core().V1().Services().Lister()
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if list, err := deployments.List(labels.Everything()); err == nil {
			for _, d := range list {
				c.deploy(ctx, d)
			}
		}
		if list, err := services.List(labels.Everything()); err == nil {
			for _, s := range list {
				if len(s.Spec.Selector) > 0 {
					c.slice(ctx, s)
				}
			}
		}
	}
}

// deploy makes the pods of a Deployment that are missing.
func (c *Cluster) deploy(ctx context.Context, d *appsv1.Deployment) {
	replicas := 1
	if d.Spec.Replicas != nil {
		replicas = int(*d.Spec.Replicas)
	}
	for i := range replicas {
		name := fmt.Sprintf("%s-pod-%d", d.Name, i) // two parts more, as those of a ReplicaSet have
		c.mu.Lock()
		known := c.pods[d.Namespace+"/"+name] != nil
		c.mu.Unlock()
		if known {
			continue
		}
		c.next = c.next.Next()
		p, err := startPod(c.next, d.Namespace, name, &d.Spec.Template)
		if err != nil {
			c.t.Errorf("pod %s/%s: %v", d.Namespace, name, err)
			return
		}
		c.mu.Lock()
		c.pods[d.Namespace+"/"+name] = p
		c.mu.Unlock()
		object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: name, Labels: d.Spec.Template.Labels}, Spec: d.Spec.Template.Spec}
		object.Spec.NodeName = "node"
		object, err = c.Client.CoreV1().Pods(d.Namespace).Create(ctx, object, metav1.CreateOptions{})
		if err == nil {
			object.Status = corev1.PodStatus{
				Phase: corev1.PodRunning, PodIP: c.next.String(), PodIPs: []corev1.PodIP{{IP: c.next.String()}},
				Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
			}
			_, err = c.Client.CoreV1().Pods(d.Namespace).UpdateStatus(ctx, object, metav1.UpdateOptions{})
		}
		if err != nil && ctx.Err() == nil {
			c.t.Errorf("pod %s/%s: %v", d.Namespace, name, err)
		}
	}
}

// slice makes the EndpointSlice of a Service.
func (c *Cluster) slice(ctx context.Context, s *corev1.Service) {
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name + "-pods", Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}}, AddressType: discoveryv1.AddressTypeIPv4,
	}
	for i := range s.Spec.Ports {
		p := &s.Spec.Ports[i]
		port := p.TargetPort.IntVal
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &port, AppProtocol: p.AppProtocol, Protocol: &p.Protocol})
	}
	ready := true
	c.mu.Lock()
	for _, p := range c.pods {
		if p.namespace == s.Namespace && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.labels)) {
			slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{p.address.String()}, Conditions: discoveryv1.EndpointConditions{Ready: &ready}})
		}
	}
	c.mu.Unlock()
	slices := c.Client.DiscoveryV1().EndpointSlices(s.Namespace)
	_, err := slices.Create(ctx, slice, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		_, err = slices.Update(ctx, slice, metav1.UpdateOptions{})
	}
	if err != nil && ctx.Err() == nil {
		c.t.Errorf("EndpointSlice %s/%s: %v", s.Namespace, slice.Name, err)
	}
}

func (c *Cluster) logs(namespace, name string, since time.Time) string {
	c.mu.Lock()
	p := c.pods[namespace+"/"+name]
	c.mu.Unlock()
	if p == nil {
		return ""
	}
	return p.log.since(since)
}
