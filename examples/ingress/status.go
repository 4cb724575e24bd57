package main

import (
	"context"
	"net/netip"
	"slices"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// look is how often Ingresses are looked at for a status that is not as it should be.
const look = time.Second

// tellStatus writes the ingress's addresses into the status of every Ingress that it serves.
func (w *world) tellStatus(ctx context.Context, config *rest.Config, addresses []netip.Addr) error {
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	var want []networkingv1.IngressLoadBalancerIngress
	for _, a := range addresses {
		want = append(want, networkingv1.IngressLoadBalancerIngress{IP: a.String()})
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		w.mu.Lock()
		ours := w.ours()
		w.mu.Unlock()
		for _, i := range ours {
			if slices.EqualFunc(i.Status.LoadBalancer.Ingress, want, func(a, b networkingv1.IngressLoadBalancerIngress) bool {
				return a.IP == b.IP && a.Hostname == b.Hostname
			}) {
				continue
			}
			i = i.DeepCopy()
			i.Status.LoadBalancer.Ingress = want
			if _, err := client.NetworkingV1().Ingresses(i.Namespace).UpdateStatus(ctx, i, metav1.UpdateOptions{}); err != nil && ctx.Err() == nil {
				w.log.Warn("the status will be tried again", "ingress", i.Namespace+"/"+i.Name, "fault", err)
			}
		}
	}
}
