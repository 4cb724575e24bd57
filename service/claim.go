package service

import (
	"net/netip"
	"strconv"
)

// claim is something that only one Service can have.
type claim struct {
	addr     netip.Addr // invalid: a port on the node's own addresses
	port     uint16     // 0: the whole address, as a cluster IP
	protocol Protocol
}

func (c claim) String() string {
	switch {
	case !c.addr.IsValid():
		return strconv.Itoa(int(c.port)) + "/" + string(c.protocol)
	case c.port == 0:
		return c.addr.String()
	}
	return netip.AddrPortFrom(c.addr, c.port).String() + "/" + string(c.protocol)
}

// claims says which Service has what.
type claims struct {
	owner  map[claim]Name
	shared map[netip.Addr]map[Name]int // Services with single ports of an address, and how many
}

// newClaims returns no claims, with room for those of that many Services.
func newClaims(services int) *claims {
	return &claims{owner: make(map[claim]Name, services), shared: map[netip.Addr]map[Name]int{}}
}

// claim calls f for everything that the Service claims and the field that says so.
func (s *svc) claim(f func(c claim, field string)) {
	for _, a := range s.cluster {
		f(claim{addr: a}, "spec.clusterIPs")
	}
	for i := range s.ports {
		p := &s.ports[i]
		if p.port != 0 {
			for _, a := range s.external {
				f(claim{a, p.port, p.protocol}, "spec.externalIPs")
			}
			for _, a := range s.vips {
				f(claim{a, p.port, p.protocol}, "status.loadBalancer.ingress")
			}
		}
		if p.node != 0 {
			f(claim{port: p.node, protocol: p.protocol}, "spec.ports.nodePort")
		}
	}
	if s.health != 0 {
		f(claim{port: s.health, protocol: TCP}, "spec.healthCheckNodePort")
	}
}

// take claims for s all that is free, and reports what is not.
func (c *claims) take(s *svc, conflict func(what claim, field string, with Name)) {
	s.claim(func(what claim, field string) {
		if have, ok := c.owner[what]; ok && have != s.name {
			conflict(what, field, have)
			return
		}
		if what.port == 0 {
			for other := range c.shared[what.addr] {
				if other != s.name {
					conflict(what, field, other)
					return
				}
			}
		} else if what.addr.IsValid() {
			if whole, ok := c.owner[claim{addr: what.addr}]; ok && whole != s.name {
				conflict(what, field, whole)
				return
			}
			if _, again := c.owner[what]; !again {
				add(c.shared, what.addr, s.name, 1)
			}
		}
		c.owner[what] = s.name
	})
}

// release gives back all that s has.
func (c *claims) release(s *svc) {
	s.claim(func(what claim, _ string) {
		if c.owner[what] != s.name {
			return
		}
		delete(c.owner, what)
		if what.addr.IsValid() && what.port != 0 {
			add(c.shared, what.addr, s.name, -1)
		}
	})
}

func add(m map[netip.Addr]map[Name]int, a netip.Addr, n Name, by int) {
	if m[a] == nil {
		m[a] = map[Name]int{}
	}
	if m[a][n] += by; m[a][n] == 0 {
		remove(m, a, n)
	}
}
