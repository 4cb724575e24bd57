package main

import (
	"context"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/podplumb/podplumb/examples/internal/apiserver"
	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/examples/internal/source"
	"github.com/podplumb/podplumb/examples/mesh/world"
)

// Pods come into the mesh and leave it as an API server says.
func TestAPIServer(t *testing.T) {
	t.Parallel()
	b := newBed(t, nodeMode, "web@a", "db@b", "-legacy@b")
	virtual := b.service("db", "db", 30, "", 80, 8080)
	server := apiserver.New()
	server.Add(apiserver.Resource{Versions: []string{"v1"}, Name: "nodes", Kind: "Node", Status: true})
	front := httptest.NewServer(server)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	defer func() {
		cancel()
		require.NoError(t, <-done)
		server.Close()
		front.CloseClientConnections()
		front.Close()
	}()
	config := &rest.Config{Host: front.URL, QPS: -1, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	client, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	for _, o := range b.objects {
		switch o := o.(type) {
		case *corev1.Namespace:
			_, err = client.CoreV1().Namespaces().Create(ctx, o, metav1.CreateOptions{})
		case *corev1.Service:
			_, err = client.CoreV1().Services(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
		case *corev1.Pod:
			var made *corev1.Pod
			made, err = client.CoreV1().Pods(o.Namespace).Create(ctx, o, metav1.CreateOptions{})
			require.NoError(t, err)
			made.Status = o.Status
			_, err = client.CoreV1().Pods(o.Namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{})
		}
		require.NoError(t, err)
	}
	b.echo("db", ":8080")
	b.followed = true
	go func() { done <- b.world.Follow(ctx, source.APIServer{Config: config}) }()
	kerneltest.Eventually(t, "the pods are known", func() bool {
		s, _ := b.world.Snapshot()
		return s.Pod("shop/legacy") != nil && s.Pod("shop/db") != nil && s.Pod("shop/web") != nil
	})
	b.enrol()
	b.listened("web", "db", 8080)
	for _, f := range families {
		greeting, own := b.reaches("web", virtual[f], secret)
		require.NotEqual(t, own, greeting)
		b.fails("legacy", b.at("db", f, 8080))
	}

	// db leaves, and web with it has to know.
	pods := client.CoreV1().Pods("shop")
	db, err := pods.Get(ctx, "db", metav1.GetOptions{})
	require.NoError(t, err)
	db.Labels[world.Label] = "disabled"
	_, err = pods.Update(ctx, db, metav1.UpdateOptions{})
	require.NoError(t, err)
	for _, f := range families {
		kerneltest.Eventually(t, "db is reached as ever", func() bool {
			c, err := b.dial("legacy", b.at("db", f, 8080))
			if err != nil {
				return false
			}
			defer c.Close()
			greeting, err := says(c, "in clear")
			return err == nil && greeting == c.LocalAddr().String()
		})
		b.reaches("web", virtual[f], "in clear")
	}

	// It comes back.
	db, err = pods.Get(ctx, "db", metav1.GetOptions{})
	require.NoError(t, err)
	delete(db.Labels, world.Label)
	_, err = pods.Update(ctx, db, metav1.UpdateOptions{})
	require.NoError(t, err)
	for _, f := range families {
		kerneltest.Eventually(t, "db is in the mesh again", func() bool {
			c, err := b.dial("legacy", b.at("db", f, 8080))
			if err != nil {
				return false
			}
			defer c.Close()
			return cut(c) != nil
		})
		b.reaches("web", virtual[f], secret)
	}
}
