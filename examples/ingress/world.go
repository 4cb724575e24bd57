package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/ingress/upstream"
	"github.com/podplumb/podplumb/examples/internal/source"
)

// together is how long changes are waited for, so that a thousand at once are one snapshot.
const together = 5 * time.Millisecond

// world holds the objects and makes snapshots of them.
type world struct {
	controller string
	use        func(*proxy.Snapshot)
	log        *slog.Logger
	ready      atomic.Bool
	gateways   gateways
	changed    chan struct{} // holds one token while there is something new
	compiled   chan struct{} // holds one token while a model is new

	mu        sync.Mutex
	ingresses map[name]*networkingv1.Ingress
	classes   map[name]*networkingv1.IngressClass
	services  map[name]*corev1.Service
	slices    map[name]*discoveryv1.EndpointSlice
	secrets   map[name]*corev1.Secret

	endpoints *upstream.Set                       // of the last snapshot
	parsed    map[*corev1.Secret]*tls.Certificate // of the last snapshot
	told      string                              // the faults, when they were last told
}

type name struct{ namespace, name string }

func newWorld(controller string, use func(*proxy.Snapshot), log *slog.Logger) *world {
	return &world{
		gateways:   newGateways(controller),
		controller: controller, use: use, log: log, changed: make(chan struct{}, 1), compiled: make(chan struct{}, 1),
		ingresses: map[name]*networkingv1.Ingress{}, classes: map[name]*networkingv1.IngressClass{}, services: map[name]*corev1.Service{},
		slices: map[name]*discoveryv1.EndpointSlice{}, secrets: map[name]*corev1.Secret{},
	}
}

// follow takes the objects in until ctx ends.
func (w *world) follow(ctx context.Context, objects source.Source) error {
	return objects.Run(ctx, known, append(gatewayKinds(), []source.Kind{
		{Object: &networkingv1.Ingress{}, Resource: "ingresses", Namespaced: true},
		{Object: &networkingv1.IngressClass{}, Resource: "ingressclasses"},
		{Object: &corev1.Service{}, Resource: "services", Namespaced: true},
		{Object: &discoveryv1.EndpointSlice{}, Resource: "endpointslices", Namespaced: true},
		{Object: &corev1.Secret{}, Resource: "secrets", Namespaced: true},
	}...), source.Receiver{
		Changed: func(changes []source.Change) {
			w.mu.Lock()
			for _, c := range changes {
				w.take(c)
			}
			w.mu.Unlock()
			signal(w.changed)
		},
		Fault: func(err error) { w.log.Error("the last good state counts", "fault", err) },
	})
}

func (w *world) take(c source.Change) {
	switch o := cmp.Or(c.New, c.Old).(type) {
	case *networkingv1.Ingress:
		put(w.ingresses, name{o.Namespace, o.Name}, o, c)
	case *networkingv1.IngressClass:
		put(w.classes, name{"", o.Name}, o, c)
	case *corev1.Service:
		put(w.services, name{o.Namespace, o.Name}, o, c)
	case *discoveryv1.EndpointSlice:
		put(w.slices, name{o.Namespace, o.Name}, o, c)
	case *corev1.Secret:
		if o.Type == corev1.SecretTypeTLS || c.New == nil {
			put(w.secrets, name{o.Namespace, o.Name}, plain(o), c)
		}
	default:
		w.gateways.take(c)
	}
	if _, only := cmp.Or(c.New, c.Old).(*discoveryv1.EndpointSlice); !only {
		w.gateways.changed = true
	}
}

// plain is the Secret with what a manifest has written as text among its data, as an API server does it.
func plain(s *corev1.Secret) *corev1.Secret {
	if len(s.StringData) == 0 {
		return s
	}
	s = s.DeepCopy()
	if s.Data == nil {
		s.Data = map[string][]byte{}
	}
	for key, text := range s.StringData {
		s.Data[key] = []byte(text)
	}
	s.StringData = nil
	return s
}

func put[T runtime.Object](to map[name]T, at name, object T, c source.Change) {
	if c.New == nil {
		delete(to, at)
	} else {
		to[at] = object
	}
}

// publish makes a snapshot of what changed, again and again.
func (w *world) publish(ctx context.Context) error {
	defer w.gateways.sockets.wait()
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		case <-again.C: // for sockets that could not be opened
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(together):
		}
		select { // what came meanwhile is in it
		case <-w.changed:
		default:
		}
		snapshot, faults := w.snapshot()
		w.use(snapshot)
		if !w.gateways.sockets.sync(ctx, snapshot.Ports) {
			again.Reset(look)
		}
		w.ready.Store(true)
		signal(w.compiled)
		if text := fmt.Sprint(faults); text != w.told {
			w.told = text
			if faults != nil {
				w.log.Error("left out", "fault", faults)
			}
		}
	}
}

// signal puts a token into a channel unless it holds one.
func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

func (w *world) snapshot() (*proxy.Snapshot, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ours := w.ours()
	rules, fallback, faults := route.FromIngresses(ours)
	certificates, certificateFaults := w.certificates(ours)
	w.endpoints = upstream.NewSet(w.endpoints, values(w.services), values(w.slices))
	return &proxy.Snapshot{
		Routes: route.New(rules, fallback), Endpoints: w.endpoints, Certificates: proxy.NewCertificates(certificates), Ports: w.compileGateways().Ports,
	}, errors.Join(faults, certificateFaults)
}

// ours lists the Ingresses of our classes, the oldest first. Without any IngressClass at all, every Ingress is ours that
// names none: a directory of manifests need not have one.
func (w *world) ours() []*networkingv1.Ingress {
	class := route.Class{Controller: w.controller, Classes: values(w.classes)}
	ours := slices.DeleteFunc(values(w.ingresses), func(i *networkingv1.Ingress) bool {
		if len(class.Classes) == 0 {
			return i.Spec.IngressClassName != nil
		}
		return !class.Has(i)
	})
	slices.SortFunc(ours, func(a, b *networkingv1.Ingress) int {
		return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	return ours
}

func values[T any](m map[name]T) []T {
	all := make([]T, 0, len(m))
	for _, v := range m {
		all = append(all, v)
	}
	return all
}

// certificates gives every host of an Ingress's tls section its certificate; the oldest Ingress's counts.
func (w *world) certificates(ours []*networkingv1.Ingress) (map[string]*tls.Certificate, error) {
	byHost, parsed := map[string]*tls.Certificate{}, map[*corev1.Secret]*tls.Certificate{}
	var faults []error
	for _, i := range ours {
		for n, t := range i.Spec.TLS {
			if t.SecretName == "" {
				continue
			}
			secret := w.secrets[name{i.Namespace, t.SecretName}]
			certificate, err := parse(secret, w.parsed, parsed)
			if err != nil {
				faults = append(faults, fmt.Errorf("Ingress %s/%s: spec.tls[%d].secretName: %s: %w", i.Namespace, i.Name, n, t.SecretName, err))
				continue
			}
			hosts := t.Hosts
			if len(hosts) == 0 {
				hosts = []string{""}
			}
			for _, host := range hosts {
				if byHost[host] == nil {
					byHost[host] = certificate
				}
			}
		}
	}
	w.parsed = parsed
	return byHost, errors.Join(faults...)
}

// parse takes what was parsed before from there, and remembers what it parses.
func parse(secret *corev1.Secret, before, parsed map[*corev1.Secret]*tls.Certificate) (*tls.Certificate, error) {
	if secret == nil {
		return nil, errors.New("no such Secret of type kubernetes.io/tls")
	}
	if known := cmp.Or(parsed[secret], before[secret]); known != nil {
		parsed[secret] = known
		return known, nil
	}
	certificate, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	parsed[secret] = &certificate
	return &certificate, nil
}
