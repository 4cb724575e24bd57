package server

import (
	"context"
	"errors"
	"strings"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/etcd/msg"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"

	"github.com/podplumb/podplumb/examples/dns/records"
)

// Version is the version of the Kubernetes DNS specification that dns-version.<zone> tells.
const Version = "1.1.0"

var (
	errNoName   = errors.New("no such name")
	errNotReady = errors.New("the cluster is not known yet")
)

// backend hands one Snapshot to CoreDNS's record builders, for one question.
type backend struct {
	*names
	snapshot *records.Snapshot
}

var _ plugin.ServiceBackend = backend{}

// Services lists what the name of the question leads to. No list and no error means a name without such records (NODATA).
func (b backend) Services(_ context.Context, state request.Request, _ bool, _ plugin.Options) ([]msg.Service, error) {
	name := state.Name()
	switch server := "ns.dns." + b.Zone; {
	case name == server || state.QType() == dns.TypeNS: // plugin.NS asks in words of its own
		var services []msg.Service
		for _, a := range b.Addresses {
			services = append(services, b.service(msg.Service{Host: a.String()}, server))
		}
		return services, nil
	case name == "dns-version."+b.Zone && state.QType() == dns.TypeTXT:
		return []msg.Service{b.service(msg.Service{Text: Version}, name)}, nil
	}
	hosts, found := b.find(name)
	if !found {
		return nil, errNoName
	}
	if state.QType() == dns.TypeTXT {
		return nil, nil
	}
	services := make([]msg.Service, 0, len(hosts))
	for _, h := range hosts {
		s := msg.Service{Host: h.Alias, Port: int(h.Port)}
		if h.Alias == "" {
			s.Host = h.Address.String()
		}
		if h.Port == 0 {
			s.Port = -1 // no SRV record
		}
		if state.QType() == dns.TypeSRV && h.Alias != "" {
			continue
		}
		owner := h.Name + "." + b.Zone
		services = append(services, b.service(s, owner))
	}
	return services, nil
}

func (b backend) service(s msg.Service, name string) msg.Service {
	s.TTL, s.Key = uint32(b.TTL.Seconds()), msg.Path(name, "podplumb")
	return s
}

// find looks a name of the zone up, in lower case.
func (b backend) find(name string) ([]records.Host, bool) {
	labels := dns.SplitDomainName(strings.TrimSuffix(name, b.Zone))
	if len(labels) > 0 && labels[len(labels)-1] == "pod" && b.Pods {
		return b.pod(labels)
	}
	return b.snapshot.Find(labels)
}

// Reverse lists the names of the address that the question's name stands for.
func (b backend) Reverse(_ context.Context, state request.Request, _ bool, _ plugin.Options) ([]msg.Service, error) {
	address, ok := addressOf(state.Name())
	if !ok {
		return nil, errNoName
	}
	var services []msg.Service
	for _, name := range b.snapshot.Names(address) {
		services = append(services, msg.Service{Host: name + "." + b.Zone, TTL: uint32(b.TTL.Seconds())})
	}
	if len(services) == 0 {
		return nil, errNoName
	}
	return services, nil
}

// Records lists what a name leads to whatever the type of the question.
func (b backend) Records(ctx context.Context, state request.Request, exact bool) ([]msg.Service, error) {
	return b.Services(ctx, state, exact, plugin.Options{})
}

// Lookup is for aliases that lead out of the zone, which names.alias follows itself.
func (b backend) Lookup(context.Context, request.Request, string, uint16) (*dns.Msg, error) {
	return new(dns.Msg), nil
}

// IsNameError tells a name that does not exist from one that cannot be answered.
func (b backend) IsNameError(err error) bool { return errors.Is(err, errNoName) }

// Serial is that of the snapshot.
func (b backend) Serial(request.Request) uint32 {
	if b.snapshot == nil {
		return 0
	}
	return b.snapshot.Serial
}

// MinTTL is how long a resolver may believe that a name does not exist (RFC 2308, 4).
func (b backend) MinTTL(request.Request) uint32 { return uint32(b.TTL.Seconds()) }

// authoritative says whether a reverse name is below the ranges that only the cluster gives names to, or is only there because of
// them: part of an address in one, or a name above one that nobody else answers for.
func (b backend) authoritative(name string) (own, above bool) {
	p, end, ok := rangeOf(name)
	if !ok {
		return false, false
	}
	partial := end && !p.IsSingleIP()
	for _, r := range b.Config.Reverse {
		switch {
		case r.Contains(p.Addr()) && p.Bits() >= r.Bits():
			own, above = true, above || partial
		case p.Contains(r.Addr()) && b.next == nil:
			above = above || partial
		}
	}
	return own, above
}
