package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/coredns/coredns/plugin"
	"github.com/coredns/coredns/plugin/forward"
	"github.com/coredns/coredns/plugin/pkg/nonwriter"
	"github.com/coredns/coredns/request"
	"github.com/miekg/dns"
)

const (
	aliases      = 8                       // how many aliases in a row are followed
	upstreamWait = 1500 * time.Millisecond // for an alias: less than the time after which clients ask again
)

// names is the plugin that answers for the cluster's zone and its reverse names.
type names struct {
	Config
	next     plugin.Handler
	upstream *forward.Forward
}

// Name implements plugin.Handler.
func (n *names) Name() string { return "podplumb" }

// ServeDNS answers from the newest Snapshot, or leaves the question to the next plugin.
func (n *names) ServeDNS(ctx context.Context, w dns.ResponseWriter, r *dns.Msg) (int, error) {
	state := request.Request{W: w, Req: r}
	name := state.Name()
	b := backend{n, n.Store.Snapshot()}
	reverse := dns.IsSubDomain("in-addr.arpa.", name) || dns.IsSubDomain("ip6.arpa.", name)
	if !dns.IsSubDomain(n.Zone, name) && !reverse {
		return n.elsewhere(ctx, state)
	}
	if reverse {
		state.Zone = name[strings.LastIndex(name[:len(name)-len("arpa.")-1], ".")+1:]
	} else {
		state.Zone = state.QName()[len(name)-len(n.Zone):] // in the letters of the question
	}
	if b.snapshot == nil {
		return plugin.BackendError(ctx, b, state.Zone, dns.RcodeServerFailure, state, errNotReady, plugin.Options{})
	}
	if state.QType() == dns.TypeAXFR || state.QType() == dns.TypeIXFR {
		return dns.RcodeRefused, nil
	}
	if reverse {
		return n.reverse(ctx, b, state)
	}
	reply, rcode, err := b.answer(ctx, state, aliases)
	if err != nil {
		return dns.RcodeServerFailure, err
	}
	return n.write(ctx, b, state, reply, rcode)
}

// elsewhere hands a question that is not the cluster's to the forwarder.
func (n *names) elsewhere(ctx context.Context, state request.Request) (int, error) {
	if n.next != nil {
		return plugin.NextOrFailure(n.Name(), n.next, ctx, state.W, state.Req)
	}
	m := new(dns.Msg).SetRcode(state.Req, dns.RcodeNameError)
	m.RecursionAvailable = true
	return dns.RcodeSuccess, state.W.WriteMsg(m)
}

func (n *names) reverse(ctx context.Context, b backend, state request.Request) (int, error) {
	rrs, err := plugin.PTR(ctx, b, state.Zone, state, plugin.Options{})
	if b.IsNameError(err) {
		switch own, above := b.authoritative(state.Name()); {
		case above: // only names below it
			return n.write(ctx, b, state, new(dns.Msg), dns.RcodeSuccess)
		case own:
			return n.write(ctx, b, state, new(dns.Msg), dns.RcodeNameError)
		}
		return n.elsewhere(ctx, state)
	}
	reply := new(dns.Msg)
	if state.QType() == dns.TypePTR || state.QType() == dns.TypeANY {
		reply.Answer = rrs
	}
	return n.write(ctx, b, state, reply, dns.RcodeSuccess)
}

// write completes a reply and sends it; one without an answer carries the SOA, so that its TTL is known (RFC 2308, 3).
func (n *names) write(ctx context.Context, b backend, state request.Request, reply *dns.Msg, rcode int) (int, error) {
	m := new(dns.Msg).SetRcode(state.Req, rcode)
	m.Authoritative, m.RecursionAvailable, m.Truncated = true, n.upstream != nil, reply.Truncated
	m.Answer, m.Ns, m.Extra = reply.Answer, reply.Ns, reply.Extra
	shuffle(m.Answer)
	if len(m.Answer) == 0 && len(m.Ns) == 0 {
		m.Ns = b.soa(ctx, state)
	}
	return dns.RcodeSuccess, state.W.WriteMsg(m)
}

func (b backend) soa(ctx context.Context, state request.Request) []dns.RR {
	rrs, _ := plugin.SOA(ctx, b, state.Zone, state, plugin.Options{})
	return rrs
}

// shuffle mixes the addresses, for clients that take the first. Aliases stay before what they lead to.
func shuffle(rrs []dns.RR) {
	from := slices.IndexFunc(rrs, func(rr dns.RR) bool { return rr.Header().Rrtype != dns.TypeCNAME })
	if from < 0 {
		return
	}
	rest := rrs[from:]
	rand.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] }) //nolint:gosec // to spread connections
}

// answer makes the records for a question about the zone, and says whether the name exists.
func (b backend) answer(ctx context.Context, state request.Request, depth int) (*dns.Msg, int, error) {
	reply, opt := new(dns.Msg), plugin.Options{}
	if hosts, _ := b.find(state.Name()); len(hosts) == 1 && hosts[0].Alias != "" {
		return b.alias(ctx, state, hosts[0].Alias, depth)
	}
	var err error
	switch t := state.QType(); {
	case t == dns.TypeA:
		reply.Answer, _, err = plugin.A(ctx, b, state.Zone, state, nil, opt)
	case t == dns.TypeAAAA:
		reply.Answer, _, err = plugin.AAAA(ctx, b, state.Zone, state, nil, opt)
	case t == dns.TypeSRV:
		reply.Answer, reply.Extra, err = plugin.SRV(ctx, b, state.Zone, state, opt)
	case t == dns.TypeTXT:
		reply.Answer, _, err = plugin.TXT(ctx, b, state.Zone, state, nil, opt)
	case t == dns.TypeSOA && state.Name() == b.Zone:
		reply.Answer, err = plugin.SOA(ctx, b, state.Zone, state, opt)
	case t == dns.TypeNS && state.Name() == b.Zone:
		reply.Answer, reply.Extra, err = plugin.NS(ctx, b, state.Zone, state, opt)
	default:
		if _, found := b.find(state.Name()); !found && state.Name() != "ns.dns."+b.Zone {
			err = errNoName
		} else if t == dns.TypeANY {
			reply.Answer = []dns.RR{&dns.HINFO{
				Hdr: dns.RR_Header{Name: state.QName(), Rrtype: dns.TypeHINFO, Class: dns.ClassINET, Ttl: uint32(b.TTL.Seconds())}, Cpu: "RFC8482",
			}}
		}
	}
	if b.IsNameError(err) {
		return reply, dns.RcodeNameError, nil
	}
	return reply, dns.RcodeSuccess, err
}

// alias answers with the CNAME of an ExternalName Service and what it leads to. The CNAME is true whether or not the
// upstream server can be reached, so it stays.
func (b backend) alias(ctx context.Context, state request.Request, target string, depth int) (*dns.Msg, int, error) {
	target = dns.Fqdn(target)
	reply := new(dns.Msg)
	reply.Answer = []dns.RR{&dns.CNAME{
		Hdr:    dns.RR_Header{Name: state.QName(), Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: uint32(b.TTL.Seconds())},
		Target: target,
	}}
	if state.QType() == dns.TypeCNAME || depth == 0 {
		return reply, dns.RcodeSuccess, nil
	}
	further, rcode := new(dns.Msg), dns.RcodeSuccess
	if lower := dns.CanonicalName(target); dns.IsSubDomain(b.Zone, lower) {
		inner := state.NewWithQuestion(target, state.QType())
		inner.Zone = state.Zone
		var err error
		if further, rcode, err = b.answer(ctx, inner, depth-1); err != nil {
			return nil, 0, err
		}
		if len(further.Answer) == 0 && len(further.Ns) == 0 {
			further.Ns = b.soa(ctx, state) // what is at the end of the aliases does not exist (RFC 2308, 2.1 and 2.2)
		}
	} else if b.upstream != nil {
		if m := b.ask(ctx, state, target); m != nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
			further, rcode = m, m.Rcode
			further.Extra = nil
		}
	}
	reply.Answer = dns.Dedup(append(reply.Answer, further.Answer...), nil) // of a circle, each alias once
	reply.Ns, reply.Extra, reply.Truncated = further.Ns, further.Extra, further.Truncated
	return reply, rcode, nil
}

// ask asks upstream, for a while; nil is no answer.
func (b backend) ask(ctx context.Context, state request.Request, name string) *dns.Msg {
	ctx, cancel := context.WithTimeout(ctx, upstreamWait)
	question := new(dns.Msg).SetQuestion(name, state.QType())
	writer := nonwriter.New(state.W)
	done := make(chan error, 1)
	go func() {
		defer cancel()
		_, err := b.upstream.ServeDNS(ctx, writer, question)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.Canceled) {
			return nil
		}
		return writer.Msg
	case <-ctx.Done():
		return nil
	}
}
