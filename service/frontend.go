package service

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Kind says what a Frontend's address is to its Service.
type Kind uint8

// The kinds of a Frontend.
const (
	KindClusterIP    Kind = iota + 1 // a cluster IP and port
	KindExternalIP                   // one of Spec.ExternalIPs and a port
	KindLoadBalancer                 // an address of the load balancer and a port
	KindNodePort                     // a port on the node's own addresses
	KindUnknownPort                  // every port of a cluster IP that no KindClusterIP Frontend serves
	KindUnallocated                  // every address of a service range that is no cluster IP
)

func (k Kind) String() string {
	switch k {
	case KindClusterIP:
		return "cluster-ip"
	case KindExternalIP:
		return "external-ip"
	case KindLoadBalancer:
		return "load-balancer"
	case KindNodePort:
		return "node-port"
	case KindUnknownPort:
		return "unknown-port"
	case KindUnallocated:
		return "unallocated"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Refusal is how a packet is turned away when there is no endpoint for it.
type Refusal uint8

// The refusals.
const (
	Reject Refusal = iota // say so at once: TCP RST or ICMP port unreachable
	Drop                  // silently: there are endpoints, but on other nodes, and a health check will move the client there
)

func (r Refusal) String() string {
	switch r {
	case Reject:
		return "reject"
	case Drop:
		return "drop"
	}
	return "refusal(" + strconv.Itoa(int(r)) + ")"
}

// Masquerade says which clients an endpoint sees with the node's address in place of their own. An endpoint that is its own client (a hairpin) is
// masqueraded in every mode: it would not accept answers from itself.
type Masquerade uint8

// The modes, each including the one before it.
const (
	MasqueradeHairpin Masquerade = iota // nobody else
	MasqueradeNode                      // connections that the node itself opens
	MasqueradeOutside                   // every client that is not in Frontend.Inside
	MasqueradeAll                       // everybody
)

func (m Masquerade) String() string {
	switch m {
	case MasqueradeHairpin:
		return "hairpin"
	case MasqueradeNode:
		return "node"
	case MasqueradeOutside:
		return "outside"
	case MasqueradeAll:
		return "all"
	}
	return "masquerade(" + strconv.Itoa(int(m)) + ")"
}

// Key is what makes a Frontend the same one after a change: what a packet is addressed to.
type Key struct {
	Kind     Kind
	Addr     netip.Addr   // KindNodePort: the unspecified address of the family; KindUnallocated: invalid
	Range    netip.Prefix // KindUnallocated only
	Port     uint16       // 0 for KindUnknownPort and KindUnallocated
	Protocol Protocol     // empty for KindUnknownPort and KindUnallocated
}

// Is4 reports whether the Frontend is of the IPv4 family.
func (k Key) Is4() bool {
	if k.Kind == KindUnallocated {
		return k.Range.Addr().Is4()
	}
	return k.Addr.Is4()
}

// String returns the kind and what a packet is addressed to, such as "cluster-ip 10.96.0.10:80/TCP" or "node-port *4:30080/UDP".
func (k Key) String() string {
	switch k.Kind {
	case KindUnallocated:
		return k.Kind.String() + " " + k.Range.String()
	case KindUnknownPort:
		return k.Kind.String() + " " + k.Addr.String()
	case KindNodePort:
		family := "*6"
		if k.Addr.Is4() {
			family = "*4"
		}
		return fmt.Sprintf("%v %s:%d/%v", k.Kind, family, k.Port, k.Protocol)
	}
	return fmt.Sprintf("%v %v/%v", k.Kind, netip.AddrPortFrom(k.Addr, k.Port), k.Protocol)
}

func (k Key) compare(o Key) int {
	if k.Kind != o.Kind {
		return int(k.Kind) - int(o.Kind)
	}
	if c := k.Addr.Compare(o.Addr); c != 0 {
		return c
	}
	if c := k.Range.Addr().Compare(o.Range.Addr()); c != 0 {
		return c
	}
	if c := k.Range.Bits() - o.Range.Bits(); c != 0 {
		return c
	}
	if k.Port != o.Port {
		return int(k.Port) - int(o.Port)
	}
	return strings.Compare(string(k.Protocol), string(o.Protocol))
}

// Endpoint is one place where a Frontend's connections end.
type Endpoint struct {
	Addr        netip.AddrPort
	Local       bool // on the node that was resolved for
	Terminating bool // on its way out: it is here because no other is left
}

func (e Endpoint) String() string {
	s := e.Addr.String()
	if e.Local {
		s += " local"
	}
	if e.Terminating {
		s += " terminating"
	}
	return s
}

// Frontend is one promise of a node: packets addressed to Key, from these clients, go to one of these endpoints. It holds no reference to the objects
// that it was resolved from.
type Frontend struct {
	Key
	Service  Name   // zero for KindUnallocated
	PortName string // name of the Service's port

	// Endpoints are equal in weight, sorted by address, without duplicates. When there is none for a client, Refusal says what it meets.
	Endpoints []Endpoint
	// Near, when it is not empty, takes the place of Endpoints for clients that are in Inside or that are this node itself: under
	// ExternalTrafficPolicy Local they reach the whole cluster, as if they had gone out to the load balancer and come back.
	Near    []Endpoint
	Refusal Refusal

	Masquerade Masquerade
	Inside     []netip.Prefix // the cluster's pods in both families, State.PodRanges; shared between Frontends, not to be changed

	Sources []netip.Prefix // clients that may use this Frontend; empty: all. Others are dropped
	On      []netip.Prefix // KindNodePort: the local addresses that serve it; empty: all
	// Localhost makes a KindNodePort be served on the node's loopback addresses too; it is an address of the node, to stand in for the loopback address that
	// such a connection comes from. Invalid: not there.
	Localhost netip.Addr
	// Affinity keeps a client address with its endpoint until it has been silent for so long. 0: none. It is kept for each Service and PortName: a client
	// keeps its endpoint even when it comes through another address of the same port.
	Affinity time.Duration
}

// String returns the Frontend in one line. Where there is no endpoint it leaves out what only matters to connections.
func (f Frontend) String() string {
	var b strings.Builder
	b.WriteString(f.Key.String())
	if f.Service != (Name{}) {
		b.WriteString(" " + f.Service.String())
		if f.PortName != "" {
			b.WriteString(":" + f.PortName)
		}
	}
	if len(f.Endpoints) == 0 {
		b.WriteString(" -> " + f.Refusal.String())
	} else {
		b.WriteString(" -> " + join(f.Endpoints))
	}
	if len(f.Near) > 0 {
		b.WriteString("; near -> " + join(f.Near))
	}
	if len(f.Endpoints) == 0 && len(f.Near) == 0 {
		return b.String() // the rest is about connections that go somewhere
	}
	if f.Masquerade != MasqueradeHairpin {
		b.WriteString("; masquerade " + f.Masquerade.String())
	}
	if f.Masquerade == MasqueradeOutside || len(f.Near) > 0 {
		inside := slices.DeleteFunc(slices.Clone(f.Inside), func(p netip.Prefix) bool { return p.Addr().Is4() != f.Is4() })
		if len(inside) > 0 {
			b.WriteString("; inside " + join(inside))
		}
	}
	if len(f.Sources) > 0 {
		b.WriteString("; from " + join(f.Sources))
	}
	if len(f.On) > 0 {
		b.WriteString("; on " + join(f.On))
	}
	if f.Localhost.IsValid() {
		b.WriteString("; on localhost as " + f.Localhost.String())
	}
	if f.Affinity > 0 {
		b.WriteString("; affinity " + f.Affinity.String())
	}
	return b.String()
}

// Equal reports whether both promise the same.
func (f Frontend) Equal(o Frontend) bool {
	return f.Key == o.Key && f.Service == o.Service && f.PortName == o.PortName && f.Refusal == o.Refusal && f.Masquerade == o.Masquerade &&
		f.Affinity == o.Affinity && slices.Equal(f.Endpoints, o.Endpoints) && slices.Equal(f.Near, o.Near) && slices.Equal(f.Inside, o.Inside) &&
		slices.Equal(f.Sources, o.Sources) && slices.Equal(f.On, o.On) && f.Localhost == o.Localhost
}

func join[T fmt.Stringer](list []T) string {
	parts := make([]string, len(list))
	for i, x := range list {
		parts[i] = x.String()
	}
	return strings.Join(parts, ", ")
}
