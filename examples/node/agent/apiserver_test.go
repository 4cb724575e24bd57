package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeServer answers list and watch of nodes as an API server does.
type nodeServer struct {
	mu      sync.Mutex
	nodes   []corev1.Node
	down    bool
	changes chan metav1.WatchEvent
}

func (s *nodeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	nodes, down := s.nodes, s.down
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	query := r.URL.Query()
	switch {
	case r.URL.Path != "/api/v1/nodes" || down:
		w.WriteHeader(http.StatusServiceUnavailable)
	case query.Get("sendInitialEvents") != "": // an older server, which does not know how to stream a list
		w.WriteHeader(http.StatusUnprocessableEntity)
		_ = json.NewEncoder(w).Encode(metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: "Failure", Reason: metav1.StatusReasonInvalid, Code: 422})
	case query.Get("watch") != "":
		w.(http.Flusher).Flush()
		for {
			select {
			case <-r.Context().Done():
				return
			case event := <-s.changes:
				_ = json.NewEncoder(w).Encode(event)
				w.(http.Flusher).Flush()
			}
		}
	default:
		_ = json.NewEncoder(w).Encode(corev1.NodeList{
			TypeMeta: metav1.TypeMeta{Kind: "NodeList", APIVersion: "v1"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: nodes,
		})
	}
}

func TestWatchCluster(t *testing.T) {
	t.Parallel()
	big := nodeA
	big.Labels = map[string]string{"a": "label that nobody needs"}
	server := &nodeServer{nodes: []corev1.Node{big}, down: true, changes: make(chan metav1.WatchEvent)}
	web := httptest.NewServer(server)
	defer web.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, fmt.Appendf(nil, `{"clusters":[{"name":"c","cluster":{"server":%q}}],"contexts":[{"name":"c","context":{"cluster":"c"}}],"current-context":"c"}`, web.URL), 0o600))

	ctx, cancel := context.WithCancel(t.Context())
	told := make(chan []corev1.Node, 10)
	failed := make(chan error, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- watchCluster(ctx, kubeconfig, func(nodes []corev1.Node, err error) {
			if err != nil {
				failed <- err
				return
			}
			told <- nodes
		})
	}()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	wait := func() []corev1.Node {
		select {
		case nodes := <-told:
			return nodes
		case <-time.After(time.Minute):
			t.Fatal("nothing is told")
			return nil
		}
	}
	select {
	case err := <-failed:
		require.ErrorContains(t, err, web.URL)
	case <-time.After(time.Minute):
		t.Fatal("nobody says that the server is away")
	}
	server.mu.Lock()
	server.down = false
	server.mu.Unlock()
	first := wait()
	require.Len(t, first, 1)
	require.Equal(t, nodeA.Status.Addresses, first[0].Status.Addresses)
	require.Equal(t, nodeA.Spec.PodCIDRs, first[0].Spec.PodCIDRs)
	require.Empty(t, first[0].Labels)

	b := node("b", []string{"10.244.2.0/24"}, "192.168.0.2")
	b.ResourceVersion = "2"
	b.TypeMeta = metav1.TypeMeta{Kind: "Node", APIVersion: "v1"}
	event := metav1.WatchEvent{Type: "ADDED"}
	event.Object.Object = &b
	server.changes <- event
	require.Len(t, wait(), 2)
}
