package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/ingress/gateway"
	"github.com/podplumb/podplumb/examples/internal/source"
)

// known is the scheme of all objects that are followed.
var known = func() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(scheme.AddToScheme(s))
	utilruntime.Must(gatewayv1.Install(s))
	return s
}()

// gatewayKinds are those of the Gateway API. A cluster need not have them.
func gatewayKinds() []source.Kind {
	return []source.Kind{
		{Object: &gatewayv1.GatewayClass{}, Resource: "gatewayclasses", Optional: true},
		{Object: &gatewayv1.Gateway{}, Resource: "gateways", Namespaced: true, Optional: true},
		{Object: &gatewayv1.HTTPRoute{}, Resource: "httproutes", Namespaced: true, Optional: true},
		{Object: &gatewayv1.GRPCRoute{}, Resource: "grpcroutes", Namespaced: true, Optional: true},
		{Object: &gatewayv1.ReferenceGrant{}, Resource: "referencegrants", Namespaced: true, Optional: true},
		{Object: &corev1.Namespace{}, Resource: "namespaces"},
	}
}

// gateways are the part of the world that the Gateway API makes.
type gateways struct {
	config  gateway.Config
	changed bool // something besides endpoints, since the last model

	classes    map[name]*gatewayv1.GatewayClass
	gateways   map[name]*gatewayv1.Gateway
	http       map[name]*gatewayv1.HTTPRoute
	grpc       map[name]*gatewayv1.GRPCRoute
	grants     map[name]*gatewayv1.ReferenceGrant
	namespaces map[name]*corev1.Namespace

	parsed  map[*corev1.Secret]*tls.Certificate // of the model
	model   *gateway.Model
	sockets sockets
}

func newGateways(controller string) gateways {
	return gateways{
		config:  gateway.Config{Controller: gatewayv1.GatewayController(controller)},
		classes: map[name]*gatewayv1.GatewayClass{}, gateways: map[name]*gatewayv1.Gateway{}, http: map[name]*gatewayv1.HTTPRoute{},
		grpc: map[name]*gatewayv1.GRPCRoute{}, grants: map[name]*gatewayv1.ReferenceGrant{}, namespaces: map[name]*corev1.Namespace{},
	}
}

func (g *gateways) take(c source.Change) {
	switch o := cmp.Or(c.New, c.Old).(type) {
	case *gatewayv1.GatewayClass:
		put(g.classes, name{"", o.Name}, o, c)
	case *gatewayv1.Gateway:
		put(g.gateways, name{o.Namespace, o.Name}, o, c)
	case *gatewayv1.HTTPRoute:
		put(g.http, name{o.Namespace, o.Name}, o, c)
	case *gatewayv1.GRPCRoute:
		put(g.grpc, name{o.Namespace, o.Name}, o, c)
	case *gatewayv1.ReferenceGrant:
		put(g.grants, name{o.Namespace, o.Name}, o, c)
	case *corev1.Namespace:
		put(g.namespaces, name{"", o.Name}, o, c)
	}
}

// compileGateways makes the model anew if anything changed that it is made of.
func (w *world) compileGateways() *gateway.Model {
	g := &w.gateways
	if g.model != nil && !g.changed {
		return g.model
	}
	parsed := map[*corev1.Secret]*tls.Certificate{}
	g.model = gateway.Compile(g.config, &gateway.Objects{
		Classes: values(g.classes), Gateways: values(g.gateways), HTTPRoutes: values(g.http), GRPCRoutes: values(g.grpc), Grants: values(g.grants),
		Namespace:   func(n string) *corev1.Namespace { return g.namespaces[name{"", n}] },
		Service:     func(namespace, n string) *corev1.Service { return w.services[name{namespace, n}] },
		Secret:      func(namespace, n string) *corev1.Secret { return w.secrets[name{namespace, n}] },
		Certificate: func(s *corev1.Secret) (*tls.Certificate, error) { return parse(s, g.parsed, parsed) },
	}, g.model)
	g.parsed, g.changed = parsed, false
	return g.model
}

// sockets are what Gateways listen on. They are opened and closed by one goroutine.
type sockets struct {
	listen func(ctx context.Context, address netip.AddrPort) (net.Listener, error) // nil: nothing is opened
	serve  func(ctx context.Context, l net.Listener, address netip.AddrPort, secure bool) error
	log    func(message string, address netip.AddrPort, fault error)

	have map[netip.AddrPort]*socket

	mu     sync.Mutex
	closed map[netip.AddrPort]error // that should be open
}

type socket struct {
	secure bool
	close  func()
	ended  chan struct{}
}

// sync opens and closes what is not as it should be, and says whether all that should be open is. Closed sockets let their
// requests end.
func (s *sockets) sync(ctx context.Context, want map[netip.AddrPort]*gateway.Port) bool {
	if s.listen == nil {
		return true
	}
	if s.have == nil {
		s.have = map[netip.AddrPort]*socket{}
	}
	for address, open := range s.have {
		select {
		case <-open.ended: // by itself
			delete(s.have, address)
			continue
		default:
		}
		if port := want[address]; port == nil || port.TLS != open.secure {
			open.close()
			delete(s.have, address)
		}
	}
	closed := map[netip.AddrPort]error{}
	for address, port := range want {
		if s.have[address] != nil {
			continue
		}
		opened, err := s.open(ctx, address, port.TLS)
		if err != nil {
			closed[address] = err
			continue
		}
		s.have[address] = opened
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, err := range closed {
		if old := s.closed[address]; old == nil || old.Error() != err.Error() {
			s.log("a listener cannot be opened", address, err)
		}
	}
	s.closed = closed
	return len(closed) == 0
}

func (s *sockets) open(ctx context.Context, address netip.AddrPort, secure bool) (*socket, error) {
	l, err := s.listen(ctx, address)
	if err != nil {
		return nil, err
	}
	s.log("a listener is open", address, nil)
	ctx, cancel := context.WithCancel(ctx)
	opened := &socket{secure: secure, ended: make(chan struct{}), close: func() { cancel(); _ = l.Close() }}
	go func() {
		defer close(opened.ended)
		defer cancel()
		if err := s.serve(ctx, l, address, secure); err != nil {
			s.log("a listener has ended", address, err)
		}
	}()
	return opened, nil
}

// wait waits until requests have ended, once ctx of sync has.
func (s *sockets) wait() {
	for _, open := range s.have {
		<-open.ended
	}
}

// why tells why an address is not listened on, and nil if it is.
func (s *sockets) why(address netip.AddrPort) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed[address]
}
