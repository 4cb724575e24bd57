package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podplumb/podplumb/examples/internal/manifest"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/service"
)

// serve gives every node its translations: pods leave the cluster under the node's address, and Services lead to pods.
func (c *cluster) serve(ctx context.Context) (string, error) {
	state, err := c.serviceState()
	if err != nil {
		return "", err
	}
	err = c.eachNode(ctx, func(ctx context.Context, n *node) error {
		client, err := nat.New(nat.Config{NetNS: n.ns})
		if err != nil {
			return err
		}
		defer client.Close()
		plan, err := client.Sync(ctx, c.masquerade(n))
		if err != nil {
			return err
		}
		c.out.Detail(1, n.Name(), plan.String())
		backend, closeBackend, err := c.serviceBackend(n, client)
		if err != nil {
			return err
		}
		defer closeBackend()
		proxy, err := service.New(service.Config{Node: service.Node{Meta: service.Meta{Name: n.Name()}}, Backend: backend})
		if err != nil {
			return err
		}
		changes, err := proxy.Sync(ctx, state)
		if err != nil {
			return err
		}
		c.out.Detail(1, n.Name(), changes.String())
		return nil
	})
	return count(len(c.layout.Services), "Service"), err
}

// masquerade hides the node's pods behind the node towards everybody who is not of the cluster.
func (c *cluster) masquerade(n *node) nat.State {
	state := nat.State{Exclude: append([]netip.Prefix{}, c.layout.PodRanges...)}
	for _, network := range c.layout.Underlay {
		state.Exclude = append(state.Exclude, network.Range)
	}
	for _, network := range n.PodNets {
		state.Networks = append(state.Networks, nat.Network{Prefix: network.Range, Name: "pods of " + n.Name()})
	}
	return state
}

// serviceState hands the objects to package service, whose types have the JSON of Kubernetes.
func (c *cluster) serviceState() (service.State, error) {
	state := service.State{PodRanges: c.layout.PodRanges, ServiceRanges: c.layout.ServiceRanges}
	for i := range c.layout.Services {
		if err := appendAs(&state.Services, &c.layout.Services[i]); err != nil {
			return state, err
		}
	}
	for i := range c.layout.Pods {
		if err := appendAs(&state.Pods, &c.layout.Pods[i].Object); err != nil {
			return state, err
		}
	}
	for i := range c.layout.Nodes {
		if err := appendAs(&state.Nodes, &c.layout.Nodes[i].Object); err != nil {
			return state, err
		}
	}
	return state, nil
}

// appendAs appends an object of k8s.io/api as the type that another package has for it.
func appendAs[T any](list *[]T, object any) error {
	data, err := json.Marshal(object)
	if err != nil {
		return err
	}
	var converted T
	if err := json.Unmarshal(data, &converted); err != nil {
		return fmt.Errorf("%T as %T: %w", object, converted, err)
	}
	*list = append(*list, converted)
	return nil
}

// selected returns the pods that a Service's selector chooses.
func (c *cluster) selected(svc *corev1.Service) []*pod {
	if len(svc.Spec.Selector) == 0 {
		return nil // endpoints of such a Service come from elsewhere
	}
	selector := labels.SelectorFromSet(svc.Spec.Selector)
	var pods []*pod
	for _, p := range c.pods {
		if p.Object.Namespace == svc.Namespace && selector.Matches(labels.Set(p.Object.Labels)) {
			pods = append(pods, p)
		}
	}
	return pods
}

// targetPort returns the port of a pod that a Service's port leads to, or 0 when the pod has none of that name.
func targetPort(p *pod, port corev1.ServicePort) int32 {
	if port.TargetPort.Type == intstr.Int {
		return port.TargetPort.IntVal
	}
	for _, container := range manifest.Containers(&p.Object.Spec) {
		for _, candidate := range container.Ports {
			if candidate.Name == port.TargetPort.StrVal && candidate.Protocol == port.Protocol {
				return candidate.ContainerPort
			}
		}
	}
	return 0
}

func serviceName(svc *corev1.Service) string {
	if svc.Namespace == "default" {
		return svc.Name
	}
	return svc.Namespace + "/" + svc.Name
}
