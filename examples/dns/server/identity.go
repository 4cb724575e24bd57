package server

import (
	"context"

	"github.com/coredns/coredns/plugin"
	"github.com/miekg/dns"
)

// identity is the plugin that answers what is not a question of class IN: who the server is (RFC 4892), if it is to tell.
type identity struct {
	id   string
	next plugin.Handler
}

// Name implements plugin.Handler. CoreDNS refuses questions of class CHAOS unless a plugin of this name is there.
func (i identity) Name() string { return "chaos" }

// ServeDNS implements plugin.Handler.
func (i identity) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	if r.Opcode != dns.OpcodeQuery { // the package dns lets notifications through
		return dns.RcodeNotImplemented, nil
	}
	q := &r.Question[0]
	if q.Qclass == dns.ClassINET {
		return plugin.NextOrFailure(i.Name(), i.next, ctx, w, r)
	}
	name := dns.CanonicalName(q.Name)
	if q.Qclass != dns.ClassCHAOS || q.Qtype != dns.TypeTXT || i.id == "" || name != "id.server." && name != "hostname.bind." {
		return dns.RcodeRefused, nil
	}
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	m.Answer = []dns.RR{&dns.TXT{Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeTXT, Class: dns.ClassCHAOS}, Txt: []string{i.id}}}
	return dns.RcodeSuccess, w.WriteMsg(m)
}
