package service

import (
	"net/netip"
	"slices"
)

// HealthCheck is what a node answers on a Service's healthCheckNodePort: a load balancer asks there which nodes have an endpoint of a Service with
// ExternalTrafficPolicy Local. It passes when Local is not 0.
type HealthCheck struct {
	Service Name
	Port    uint16
	// Local is how many ready endpoints are on the node; one with addresses in both families counts once. Endpoints that terminate do not count, even
	// while they still serve: the load balancer is to go elsewhere.
	Local int
}

// HealthChecks returns the health check node ports of the Services that Resolve serves, sorted by Service. It fails as Resolve does.
func HealthChecks(s State, node Node) ([]HealthCheck, error) {
	w, err := build(s, node)
	if err != nil {
		return nil, err
	}
	return w.healthChecks(), nil
}

// HealthChecks returns what the node has to answer now. It costs only what the Services with such a port cost.
func (p *Proxy) HealthChecks() []HealthCheck {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.world.healthChecks()
}

func (w *world) healthChecks() []HealthCheck {
	var list []HealthCheck
	for n, s := range w.checked {
		if w.serves(s) {
			list = append(list, HealthCheck{Service: n, Port: s.health, Local: max(w.localReady(s, v4), w.localReady(s, v6))})
		}
	}
	slices.SortFunc(list, func(a, b HealthCheck) int { return a.Service.compare(b.Service) })
	return list
}

// localReady counts the ready addresses of a Service on this node.
func (w *world) localReady(s *svc, fam int) int {
	addrs := map[netip.Addr]bool{}
	for i := range s.ports {
		for _, c := range w.candidates(s, &s.ports[i], fam, nil) {
			if c.ready && c.local(w.settings.node) {
				addrs[c.addr.Addr()] = true
			}
		}
	}
	return len(addrs)
}
