package main

import (
	"context"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/rest"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// tellGateways writes the status of what the Gateway API has of ours whenever it is not as it should be.
func (w *world) tellGateways(ctx context.Context, config *rest.Config) error {
	config = rest.CopyConfig(config)
	version := schema.GroupVersion(gatewayv1.GroupVersion)
	config.GroupVersion, config.APIPath, config.QPS = &version, "/apis", -1
	config.NegotiatedSerializer = serializer.NewCodecFactory(known).WithoutConversion()
	client, err := rest.RESTClientFor(config)
	if err != nil {
		return err
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.compiled:
		case <-again.C:
		}
		w.mu.Lock()
		model := w.gateways.model
		w.mu.Unlock()
		if model == nil {
			continue
		}
		for _, object := range model.Status(w.gateways.sockets.why, metav1.Now()) {
			if err := writeStatus(ctx, client, object); err != nil && ctx.Err() == nil {
				about, _ := meta.Accessor(object)
				if !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) { // else there is something newer, which is on its way here
					w.log.Warn("the status will be tried again", "object", about.GetNamespace()+"/"+about.GetName(), "fault", err)
				}
				again.Reset(look)
			}
		}
	}
}

func writeStatus(ctx context.Context, client rest.Interface, object runtime.Object) error {
	resource := ""
	switch object.(type) {
	case *gatewayv1.GatewayClass:
		resource = "gatewayclasses"
	case *gatewayv1.Gateway:
		resource = "gateways"
	case *gatewayv1.HTTPRoute:
		resource = "httproutes"
	case *gatewayv1.GRPCRoute:
		resource = "grpcroutes"
	}
	about, err := meta.Accessor(object)
	if err != nil {
		return err
	}
	return client.Verb(http.MethodPut).NamespaceIfScoped(about.GetNamespace(), about.GetNamespace() != "").
		Resource(resource).Name(about.GetName()).SubResource("status").Body(object).Do(ctx).Error()
}
