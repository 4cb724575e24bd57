package gateway

import (
	"cmp"
	"crypto/tls"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/podplumb/podplumb/examples/internal/httproute"
)

// Objects are what a Model is made of.
type Objects struct {
	Classes    []*gatewayv1.GatewayClass
	Gateways   []*gatewayv1.Gateway
	HTTPRoutes []*gatewayv1.HTTPRoute
	GRPCRoutes []*gatewayv1.GRPCRoute
	Grants     []*gatewayv1.ReferenceGrant

	// These return what is missing as nil.
	Namespace func(name string) *corev1.Namespace
	Service   func(namespace, name string) *corev1.Service
	Secret    func(namespace, name string) *corev1.Secret

	// Certificate parses a Secret.
	Certificate func(*corev1.Secret) (*tls.Certificate, error)
}

// Config says which objects are ours, and where they may be served.
type Config struct {
	// Controller is that of the GatewayClasses to serve.
	Controller gatewayv1.GatewayController

	// Addresses are the pool. A Gateway that asks for none has one of each family that is in it.
	Addresses []netip.Prefix
}

// Model is what the objects come to. It is immutable.
type Model struct {
	Ports map[netip.AddrPort]*Port

	controller gatewayv1.GatewayController
	classes    []*gatewayv1.GatewayClass // ours
	gateways   []*gateway                // of them, the oldest first
	routes     []*routeState
}

// Port is what is served at a port of a Gateway, at all its addresses.
type Port struct {
	Gateway   string // namespace/name
	Number    uint16
	TLS       bool
	Listeners httproute.ByHost[*Listener]
}

// Listener is a listener that is served.
type Listener struct {
	Name         string
	Hostname     string // in lower case; empty: all
	Certificates []*tls.Certificate
	Routes       *httproute.Table
}

// gateway is a Gateway on its way to be served.
type gateway struct {
	*gatewayv1.Gateway
	refused   *refusal // not accepted
	unusable  *refusal // accepted, and cannot be served
	addresses []netip.Addr
	listeners []*listener
}

// listener is a listener on its way to be served.
type listener struct {
	*gatewayv1.Listener
	hostname     string
	kinds        []gatewayv1.RouteGroupKind
	namespaces   func(string) bool // from which routes may come
	refused      *refusal          // not accepted
	conflict     *refusal
	unresolved   *refusal
	taken        *refusal // the port is another Gateway's
	certificates []*tls.Certificate
	attached     []httproute.Attachment
	hostnames    map[string][]string // that are attached, by kind of route
	count        int32
	port         *Port
}

// refusal is the reason and message of a condition.
type refusal struct{ reason, message string }

// served says whether a listener has all it needs.
func (l *listener) served() bool {
	return l.refused == nil && l.conflict == nil && l.taken == nil && len(l.kinds) > 0 && (l.Protocol == gatewayv1.HTTPProtocolType || len(l.certificates) > 0)
}

// Compile makes a Model. Gateways keep the addresses that they have in the model before (which may be nil) or in their status.
func Compile(config Config, objects *Objects, before *Model) *Model {
	m := &Model{Ports: map[netip.AddrPort]*Port{}, controller: config.Controller}
	ours := map[gatewayv1.ObjectName]bool{}
	for _, c := range objects.Classes {
		if c.Spec.ControllerName == config.Controller {
			m.classes = append(m.classes, c)
			ours[gatewayv1.ObjectName(c.Name)] = c.Spec.ParametersRef == nil
		}
	}
	slices.SortFunc(m.classes, func(a, b *gatewayv1.GatewayClass) int { return cmp.Compare(a.Name, b.Name) })
	for _, g := range objects.Gateways {
		if ours[g.Spec.GatewayClassName] {
			m.gateways = append(m.gateways, newGateway(g, objects))
		}
	}
	slices.SortFunc(m.gateways, func(a, b *gateway) int { return byAge(&a.ObjectMeta, &b.ObjectMeta) })
	m.assign(config.Addresses, before)
	m.attach(objects)
	m.open()
	return m
}

// byAge orders objects as the API has it between equals: the oldest first, then by name.
func byAge(a, b *metav1.ObjectMeta) int {
	return cmp.Or(a.CreationTimestamp.Time.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Namespace+"/"+a.Name, b.Namespace+"/"+b.Name))
}

// open makes the ports of what is served.
func (m *Model) open() {
	for _, g := range m.gateways {
		if g.refused != nil || g.unusable != nil {
			continue
		}
		ports := map[uint16]*Port{}
		for _, l := range g.listeners {
			number := uint16(l.Port)
			if !l.served() || m.isTaken(g, l, ports) {
				continue
			}
			p := ports[number]
			if p == nil {
				p = &Port{Gateway: g.Namespace + "/" + g.Name, Number: number, TLS: l.Protocol == gatewayv1.HTTPSProtocolType}
				ports[number] = p
				for _, a := range g.addresses {
					m.Ports[netip.AddrPortFrom(a, number)] = p
				}
			}
			l.port = p
			p.Listeners.Put(l.hostname, &Listener{Name: string(l.Name), Hostname: l.hostname, Certificates: l.certificates, Routes: httproute.New(l.attached)})
		}
	}
}

// isTaken says whether an older Gateway has the port at one of the addresses.
func (m *Model) isTaken(g *gateway, l *listener, own map[uint16]*Port) bool {
	if own[uint16(l.Port)] != nil {
		return false
	}
	for _, a := range g.addresses {
		if other := m.Ports[netip.AddrPortFrom(a, uint16(l.Port))]; other != nil {
			l.taken = &refusal{string(gatewayv1.ListenerReasonPortUnavailable), "Gateway " + other.Gateway + " has port " + netip.AddrPortFrom(a, uint16(l.Port)).String()}
			return true
		}
	}
	return false
}

// selected makes the condition for namespaces of routes.
func selected(allowed *gatewayv1.AllowedRoutes, own string, namespace func(string) *corev1.Namespace) (func(string) bool, error) {
	from := gatewayv1.NamespacesFromSame
	if allowed != nil && allowed.Namespaces != nil && allowed.Namespaces.From != nil {
		from = *allowed.Namespaces.From
	}
	switch from {
	case gatewayv1.NamespacesFromAll:
		return func(string) bool { return true }, nil
	case gatewayv1.NamespacesFromNone:
		return func(string) bool { return false }, nil
	case gatewayv1.NamespacesFromSelector:
		selector, err := metav1.LabelSelectorAsSelector(allowed.Namespaces.Selector)
		if err != nil {
			return nil, err
		}
		return func(name string) bool {
			set := labels.Set{}
			if ns := namespace(name); ns != nil {
				maps.Copy(set, ns.Labels)
			}
			set[corev1.LabelMetadataName] = name // as an API server adds it
			return selector.Matches(set)
		}, nil
	}
	return func(name string) bool { return name == own }, nil
}
