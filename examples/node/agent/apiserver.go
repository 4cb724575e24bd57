package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

// watchCluster tells the nodes that an API server has: once they are known, and after each change, until ctx ends. While the server cannot
// be reached it tells why, and the last nodes count on.
func watchCluster(ctx context.Context, kubeconfig string, tell teller) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig) // an empty name: the pod's service account
	if err != nil {
		return err
	}
	config = rest.AddUserAgent(config, "podplumb-node")
	config.ContentType = runtime.ContentTypeProtobuf
	config.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(slim))
	nodes := factory.Core().V1().Nodes()
	if err := nodes.Informer().SetWatchErrorHandlerWithContext(func(_ context.Context, _ *cache.Reflector, err error) {
		tell(nil, fmt.Errorf("API server %s: %w", config.Host, err))
	}); err != nil {
		return err
	}
	changed := make(chan struct{}, 1)
	notify := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	if _, err := nodes.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { notify() },
		UpdateFunc: func(_, _ any) { notify() },
		DeleteFunc: func(any) { notify() },
	}); err != nil {
		return err
	}
	factory.StartWithContext(ctx)
	defer factory.Shutdown()
	if !cache.WaitForCacheSync(ctx.Done(), nodes.Informer().HasSynced) {
		return nil // ctx has ended
	}
	for {
		list, err := nodes.Lister().List(labels.Everything())
		var all []corev1.Node
		for _, node := range list {
			all = append(all, *node)
		}
		slices.SortFunc(all, func(a, b corev1.Node) int { return strings.Compare(a.Name, b.Name) })
		tell(all, err)
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		select { // heartbeats of a large cluster come all the time
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// slim keeps of a Node what is used: the rest of thousands of them would only fill memory.
func slim(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return nil, errors.New("not a Node")
	}
	small := &corev1.Node{Spec: corev1.NodeSpec{PodCIDR: node.Spec.PodCIDR, PodCIDRs: node.Spec.PodCIDRs}}
	small.Name, small.UID, small.ResourceVersion = node.Name, node.UID, node.ResourceVersion
	small.Status.Addresses = node.Status.Addresses
	return small, nil
}
