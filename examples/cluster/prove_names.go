package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/internal/container"
)

// question is a name that a process in a pod looks up, and what it is to find.
type question struct {
	pod        *pod
	kind, name string
	want       []string // sorted; none: there is no such name, or it has no such records
	among      bool     // others may be there too

	found container.Found
	err   error
}

// proveNames has pods look up every Service, by the names that one uses from there, and compares what they find with the manifests.
func (c *cluster) proveNames(ctx context.Context) error {
	if c.layout.DNS() == nil || len(c.pods) == 0 {
		return nil
	}
	questions := c.questions()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, q := range questions {
		group.Go(func() error {
			const patience = 20 * time.Second // a resolver asks again after 5 s
			limited, cancel := context.WithTimeout(groupCtx, patience)
			defer cancel()
			q.found, q.err = container.Lookup(limited, q.pod.ns.DialContext, netip.AddrPortFrom(q.pod.Addrs[0], q.pod.probe), q.kind, q.name)
			return context.Cause(groupCtx)
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	var wrong []string
	for _, q := range questions {
		if fault := q.fault(); fault != "" {
			wrong = append(wrong, fmt.Sprintf("%s, %s", q, fault))
		}
	}
	c.out.Verdict(len(wrong) == 0, "names: %s from pods, every answer as the manifests say", count(len(questions), "question"))
	const lines = 14
	for i, q := range questions {
		if i == lines && c.out.Verbose == 0 && len(questions) > lines+1 {
			c.out.Line("          ... %d more lines with -v", len(questions)-i)
			break
		}
		c.out.Line("          %s", q)
	}
	for _, line := range wrong {
		c.out.Line("          but: %s", line)
	}
	if len(wrong) > 0 {
		return errors.New("the names are not as they should be")
	}
	return nil
}

func (q *question) fault() string {
	records := q.found.Records
	if q.among {
		records = slices.DeleteFunc(slices.Clone(records), func(r string) bool { return !slices.Contains(q.want, r) })
	}
	switch {
	case q.err != nil:
		return q.err.Error()
	case !slices.Equal(records, q.want) || q.found.Missing != (len(q.want) == 0):
		return fmt.Sprintf("and not %v", q.want)
	}
	return ""
}

func (q *question) String() string {
	answer := strings.Join(q.found.Records, " ")
	if q.found.Missing {
		answer = "none"
	}
	return fmt.Sprintf("%s  %s %s: %s", q.pod.Name(), q.kind, q.name, answer)
}

// questions lists what is asked: each Service by its short name from its own namespace and by a longer one from another, its
// named ports, its addresses, and a name that nobody has.
func (c *cluster) questions() []*question {
	var all []*question
	add := func(p *pod, kind, name string, want ...string) *question {
		slices.Sort(want)
		q := &question{pod: p, kind: kind, name: name, want: slices.Compact(want)}
		all = append(all, q)
		return q
	}
	for _, svc := range slices.Concat(c.layout.Names, c.layout.Services) {
		inside, elsewhere := c.askers(svc.Namespace)
		within := svc.Name + "." + svc.Namespace
		full := within + ".svc." + layout.Zone
		addrs, known := c.addrsOf(&svc)
		if !known {
			continue
		}
		for family, kind := range []string{container.A, container.AAAA} {
			var want []string
			for _, a := range addrs {
				if a.Is6() == (family == 1) {
					want = append(want, a.String())
				}
			}
			if inside != nil {
				add(inside, kind, svc.Name, slices.Clone(want)...)
			}
			if elsewhere != nil {
				add(elsewhere, kind, within, want...)
			}
		}
		asker := cmp.Or(inside, elsewhere)
		if asker == nil {
			continue
		}
		for _, port := range svc.Spec.Ports {
			if port.Name != "" && svc.Spec.Type != corev1.ServiceTypeExternalName {
				add(asker, container.SRV, fmt.Sprintf("_%s._%s.%s", port.Name, strings.ToLower(string(port.Protocol)), full), c.targets(&svc, port, full)...)
			}
		}
		for _, ip := range svc.Spec.ClusterIPs {
			if ip != corev1.ClusterIPNone {
				add(asker, container.PTR, ip, full)
			}
		}
		if svc.Spec.ClusterIP == corev1.ClusterIPNone {
			for _, p := range c.selected(&svc)[:min(1, len(c.selected(&svc)))] {
				for _, a := range p.Addrs {
					add(asker, container.PTR, a.String(), endpointName(p, a, &svc)+"."+full).among = true
				}
			}
		}
	}
	if inside, elsewhere := c.askers("default"); inside != nil || elsewhere != nil {
		add(cmp.Or(inside, elsewhere), container.A, "nobody")
	}
	return all
}

// askers picks a pod of a namespace and one of another, among those that find names by the cluster's DNS server.
func (c *cluster) askers(namespace string) (inside, elsewhere *pod) {
	for _, p := range c.pods {
		if policy := p.Object.Spec.DNSPolicy; policy == corev1.DNSNone || policy == corev1.DNSDefault {
			continue
		}
		if p.Object.Namespace == namespace && inside == nil {
			inside = p
		}
		if p.Object.Namespace != namespace && elsewhere == nil {
			elsewhere = p
		}
	}
	return inside, elsewhere
}

// addrsOf returns what a Service's name leads to, as the specification says; known is false for names outside of the cluster.
func (c *cluster) addrsOf(svc *corev1.Service) (addrs []netip.Addr, known bool) {
	switch {
	case svc.Spec.Type == corev1.ServiceTypeExternalName:
		for _, other := range c.layout.Services {
			if svc.Spec.ExternalName == other.Name+"."+other.Namespace+".svc."+layout.Zone {
				return c.addrsOf(&other)
			}
		}
		return nil, false
	case svc.Spec.ClusterIP == corev1.ClusterIPNone:
		for _, p := range c.selected(svc) {
			if len(svc.Spec.Ports) == 0 || slices.ContainsFunc(svc.Spec.Ports, func(port corev1.ServicePort) bool { return targetPort(p, port) != 0 }) {
				addrs = append(addrs, p.Addrs...)
			}
		}
		return addrs, true
	}
	for _, text := range svc.Spec.ClusterIPs {
		addrs = append(addrs, netip.MustParseAddr(text))
	}
	return addrs, true
}

// targets is what the SRV records of a port say.
func (c *cluster) targets(svc *corev1.Service, port corev1.ServicePort, full string) []string {
	if svc.Spec.ClusterIP != corev1.ClusterIPNone {
		return []string{fmt.Sprintf("%d %s", port.Port, full)}
	}
	var all []string
	for _, p := range c.selected(svc) {
		if number := targetPort(p, port); number != 0 {
			for _, a := range p.Addrs {
				all = append(all, fmt.Sprintf("%d %s.%s", number, endpointName(p, a, svc), full))
			}
		}
	}
	return all
}

// endpointName is a pod's label below a Service: its hostname, if it asks for one below this Service, or its address with dashes.
func endpointName(p *pod, a netip.Addr, svc *corev1.Service) string {
	if p.Object.Spec.Hostname != "" && p.Object.Spec.Subdomain == svc.Name {
		return p.Object.Spec.Hostname
	}
	return strings.NewReplacer(".", "-", ":", "-").Replace(a.String())
}

// askDNS asks the cluster's DNS server who it is (RFC 4892). Of the packets' addresses it knows the client's own alone.
func askDNS(protocol, namespace string) func(context.Context, container.Dialer, netip.AddrPort) (container.Asked, error) {
	return func(ctx context.Context, dial container.Dialer, to netip.AddrPort) (container.Asked, error) {
		conn, err := dial(ctx, protocol, to.String())
		if err != nil {
			return container.Asked{}, err
		}
		defer conn.Close()
		m := new(dns.Msg).SetQuestion("id.server.", dns.TypeTXT)
		m.Question[0].Qclass = dns.ClassCHAOS
		reply, _, err := (&dns.Client{Net: protocol}).ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
		if err != nil {
			return container.Asked{}, err
		}
		if len(reply.Answer) != 1 {
			return container.Asked{}, fmt.Errorf("does not say who it is: %s", dns.RcodeToString[reply.Rcode])
		}
		from, _ := netip.ParseAddrPort(conn.LocalAddr().String())
		from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
		name := namespace + "/" + strings.Join(reply.Answer[0].(*dns.TXT).Txt, "")
		return container.Asked{From: from, Answer: container.Answer{Pod: name, Client: from, Server: netip.AddrPortFrom(netip.IPv6Unspecified(), to.Port())}}, nil
	}
}
