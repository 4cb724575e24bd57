package server_test

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/podplumb/podplumb/examples/dns/records"
	"github.com/podplumb/podplumb/examples/dns/server"
)

func filled(change ...func(*records.Edit)) *records.Store {
	store := new(records.Store)
	store.Update(fill)
	for _, c := range change {
		store.Update(c)
	}
	return store
}

// crowd is a headless Service with many endpoints.
func crowd(n int) func(*records.Edit) {
	return func(e *records.Edit) {
		e.SetService(service("crowd", func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }))
		var endpoints []discoveryv1.Endpoint
		for i := range n {
			endpoints = append(endpoints, endpoint("", true, netip.AddrFrom4([4]byte{10, 250, byte(i >> 8), byte(i)}).String()))
		}
		e.SetSlice(slice("crowd", "crowd", discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{endpointPort("http", 80), endpointPort("admin", 81)}, endpoints...))
	}
}

// What is neither asked for usually nor written in the specification of the names.
func TestOddQuestions(t *testing.T) {
	t.Parallel()
	store := filled(func(e *records.Edit) {
		e.SetService(service("address", func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "192.0.2.1" }))
		e.SetService(service("todb", func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "db-0.db.shop.svc.cluster.local"
		}))
		e.SetService(service("portless", func(s *corev1.ServiceSpec) { s.ClusterIP = "10.96.0.77" }))
	})
	plain := start(t, server.Config{Store: store, ID: "names-1"})
	pods := start(t, server.Config{Store: store, Pods: true, Upstream: []netip.AddrPort{upstream(t)}})
	in := func(class uint16) func(*dns.Msg) { return func(m *dns.Msg) { m.Question[0].Qclass = class } }
	for _, c := range []struct {
		server, name string
		kind         uint16
		class        uint16
		want         string
	}{
		{plain, "*.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "*.*.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "*.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "*.db.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "_*._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, dns.ClassINET, "NXDOMAIN"},
		{plain, "_._tcp.one.shop.svc.cluster.local.", dns.TypeSRV, dns.ClassINET, "NXDOMAIN"},
		{plain, "_tcp.one.shop.svc.cluster.local.", dns.TypeSRV, dns.ClassINET, "NXDOMAIN"}, // its port has no name
		{plain, "one.shop.svc.cluster.local.", dns.TypeSRV, dns.ClassINET, "NOERROR: one.shop.svc.cluster.local. SRV 0 100 80 one.shop.svc.cluster.local. + one.shop.svc.cluster.local. A 10.96.0.11"},
		{plain, "_http._tcp.web.shop.svc.cluster.local.", dns.TypeTXT, dns.ClassINET, "NOERROR"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeANY, dns.ClassINET, `NOERROR: web.shop.svc.cluster.local. HINFO "RFC8482" ""`},
		{plain, "nobody.shop.svc.cluster.local.", dns.TypeANY, dns.ClassINET, "NXDOMAIN"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeDS, dns.ClassINET, "NOERROR"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeHTTPS, dns.ClassINET, "NOERROR"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeSOA, dns.ClassINET, "NOERROR"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeNS, dns.ClassINET, "NOERROR"},
		{plain, "portless.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NOERROR: portless.shop.svc.cluster.local. A 10.96.0.77"},
		{plain, "portless.shop.svc.cluster.local.", dns.TypeSRV, dns.ClassINET, "NOERROR"},
		{plain, "address.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "todb.shop.svc.cluster.local.", dns.TypeAAAA, dns.ClassINET, "NOERROR: db-0.db.shop.svc.cluster.local. AAAA fd00:244::5; todb.shop.svc.cluster.local. CNAME db-0.db.shop.svc.cluster.local."},
		{plain, "_http._tcp.out.shop.svc.cluster.local.", dns.TypeSRV, dns.ClassINET, "NXDOMAIN"},
		{plain, "x.out.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "db-0.web.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "10-244-0-9.web.shop.svc.cluster.local.", dns.TypeA, dns.ClassINET, "NOERROR: 10-244-0-9.web.shop.svc.cluster.local. A 10.244.0.9"},
		{plain, `we\.b.shop.svc.cluster.local.`, dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "cluster.local.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "xcluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, ".", dns.TypeNS, dns.ClassINET, "NXDOMAIN"},
		{plain, "10-244-0-9.shop.pod.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "pod.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{pods, "pod.cluster.local.", dns.TypeA, dns.ClassINET, "NOERROR"},
		{pods, "shop.pod.cluster.local.", dns.TypeA, dns.ClassINET, "NOERROR"},
		{pods, "10-244-0-9.shop.pod.cluster.local.", dns.TypeAAAA, dns.ClassINET, "NOERROR"},
		{pods, "10-244-0.shop.pod.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{pods, "10-244-0-256.shop.pod.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{pods, "a.10-244-0-9.shop.pod.cluster.local.", dns.TypeA, dns.ClassINET, "NXDOMAIN"},
		{plain, "id.server.", dns.TypeTXT, dns.ClassCHAOS, `NOERROR: id.server. 0 CH TXT "names-1"`},
		{plain, "HOSTNAME.bind.", dns.TypeTXT, dns.ClassCHAOS, `NOERROR: HOSTNAME.bind. 0 CH TXT "names-1"`},
		{plain, "version.bind.", dns.TypeTXT, dns.ClassCHAOS, "REFUSED"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeA, dns.ClassCHAOS, "REFUSED"},
		{plain, "web.shop.svc.cluster.local.", dns.TypeA, dns.ClassANY, "REFUSED"},
		{pods, "id.server.", dns.TypeTXT, dns.ClassCHAOS, "REFUSED"},
		{pods, "web.shop.svc.cluster.local.", dns.TypeA, dns.ClassHESIOD, "REFUSED"},
	} {
		reply := ask(t, c.server, "udp", c.name, c.kind, in(c.class))
		require.Equal(t, c.want, text(reply), "%s %s %s", c.name, dns.Class(c.class), dns.Type(c.kind))
	}
}

// Names come back in the letters of the question, by which some clients know forged answers.
func TestLetters(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled(), Upstream: []netip.AddrPort{upstream(t)}})
	for _, name := range []string{"wEb.ShOp.sVc.ClUsTeR.lOcAl.", "nObOdY.sHop.svc.Cluster.Local.", "_HTTP._tCp.Web.Shop.Svc.Cluster.Local.", "DB-0.db.SHOP.svc.cluster.LOCAL.", "APi.eXample.TEST.", "10.0.96.10.In-Addr.Arpa."} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR} {
			reply := ask(t, address, "udp", name, kind)
			require.Equal(t, name, reply.Question[0].Name)
			for _, rr := range reply.Answer {
				if rr.Header().Rrtype == kind && name != "APi.eXample.TEST." {
					require.Equal(t, name, rr.Header().Name)
				}
			}
		}
	}
}

// The flags and EDNS of answers are those that the question asks for.
func TestEDNS(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled(crowd(1000))})
	web, big := "web.shop.svc.cluster.local.", "crowd.shop.svc.cluster.local."
	reply := ask(t, address, "udp", web, dns.TypeA)
	require.Nil(t, reply.IsEdns0(), "none was asked for")
	require.True(t, reply.Authoritative)
	require.True(t, reply.RecursionDesired, "as in the question")
	require.False(t, reply.RecursionAvailable, "there is no upstream server")
	reply = ask(t, address, "udp", web, dns.TypeA, func(m *dns.Msg) { m.SetEdns0(1232, true) })
	require.True(t, reply.IsEdns0().Do())
	require.Len(t, reply.Answer, 1, "no signatures")
	for _, size := range []uint16{0, 1, 511, 512, 1232, 1452, 4096} {
		m := new(dns.Msg).SetQuestion(big, dns.TypeA)
		m.SetEdns0(size, false)
		wire := exchange(t, address, m)
		require.LessOrEqual(t, len(wire), max(int(size), dns.MinMsgSize), "buffer of %d", size)
		require.NoError(t, m.Unpack(wire))
		require.True(t, m.Truncated)
		require.NotEmpty(t, m.Answer)
	}
	require.Len(t, ask(t, address, "tcp", big, dns.TypeA).Answer, 1000)
	// Options that nobody here knows are passed over.
	reply = ask(t, address, "udp", web, dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_LOCAL{Code: 65001, Data: []byte("x")}, &dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	})
	require.Len(t, reply.Answer, 1)
}

// exchange sends a question as a datagram and returns the answer as it came.
func exchange(t *testing.T, address string, m *dns.Msg) []byte {
	t.Helper()
	wire, err := m.Pack()
	require.NoError(t, err)
	return send(t, address, wire)
}

func send(t *testing.T, address string, wire []byte) []byte {
	t.Helper()
	c, err := net.Dial("udp", address)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(slow)))
	_, err = c.Write(wire)
	require.NoError(t, err)
	buffer := make([]byte, 1<<16)
	n, err := c.Read(buffer)
	require.NoError(t, err)
	return buffer[:n]
}

// What is no question gets an error, or nothing where an answer would only feed a loop; the server goes on.
func TestMalformed(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled()})
	pack := func(change func(*dns.Msg)) []byte {
		m := new(dns.Msg).SetQuestion("web.shop.svc.cluster.local.", dns.TypeA)
		change(m)
		wire, err := m.Pack()
		require.NoError(t, err)
		return wire
	}
	for name, tt := range map[string]struct {
		wire []byte
		want int
	}{
		"no question":   {pack(func(m *dns.Msg) { m.Question = nil }), dns.RcodeFormatError},
		"two questions": {pack(func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }), dns.RcodeFormatError},
		"cut short":     {pack(func(*dns.Msg) {})[:20], dns.RcodeFormatError},
		"update":        {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		"notification":  {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		"status":        {pack(func(m *dns.Msg) { m.Opcode = dns.OpcodeStatus }), dns.RcodeNotImplemented},
	} {
		var m dns.Msg
		require.NoError(t, m.Unpack(send(t, address, tt.wire)), name)
		require.Equal(t, dns.RcodeToString[tt.want], dns.RcodeToString[m.Rcode], name)
		require.Empty(t, m.Answer, name)
	}
	c, err := net.Dial("udp", address)
	require.NoError(t, err)
	defer c.Close()
	for _, wire := range [][]byte{pack(func(m *dns.Msg) { m.Response = true }), []byte("x"), {}} {
		_, err = c.Write(wire)
		require.NoError(t, err)
	}
	require.NoError(t, c.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
	_, err = c.Read(make([]byte, 512))
	require.Error(t, err, "no answer to an answer")
	require.Equal(t, "NOERROR: web.shop.svc.cluster.local. A 10.96.0.10", text(ask(t, address, "udp", "web.shop.svc.cluster.local.", dns.TypeA)))
}

// An alias to what the cluster does not have says for how long that may be believed; one in a circle is told once.
func TestAliasLeadsNowhere(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled(func(e *records.Edit) {
		e.SetService(service("toone", func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "one.shop.svc.cluster.local"
		}))
	})})
	for name, want := range map[string]string{
		"astray.shop.svc.cluster.local.": "NXDOMAIN: astray.shop.svc.cluster.local. CNAME nobody.shop.svc.cluster.local.",
		"toone.shop.svc.cluster.local.":  "NOERROR: toone.shop.svc.cluster.local. CNAME one.shop.svc.cluster.local.",
	} {
		reply := ask(t, address, "udp", name, dns.TypeAAAA)
		require.Equal(t, want, text(reply))
		require.Len(t, reply.Ns, 1, name)
		require.EqualValues(t, 5, reply.Ns[0].(*dns.SOA).Minttl, name)
	}
	require.Len(t, ask(t, address, "udp", "loop.shop.svc.cluster.local.", dns.TypeA).Answer, 2)
}

// Names above those of addresses exist, and nobody else is asked about what is in the cluster's ranges.
func TestPartsOfAddresses(t *testing.T) {
	t.Parallel()
	config := server.Config{Store: filled(), Reverse: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12"), netip.MustParsePrefix("fd00:244::/32")}}
	alone := start(t, config)
	config.Upstream = []netip.AddrPort{upstream(t)}
	helped := start(t, config)
	for name, want := range map[string]string{
		"10.in-addr.arpa.":             "NOERROR",
		"96.10.in-addr.arpa.":          "NOERROR",
		"0.96.10.in-addr.arpa.":        "NOERROR",
		"0.112.10.in-addr.arpa.":       "NXDOMAIN",
		"1.10.0.96.10.in-addr.arpa.":   "NXDOMAIN",
		"x.96.10.in-addr.arpa.":        "NXDOMAIN",
		"d.f.ip6.arpa.":                "NOERROR",
		"7.4.4.2.0.0.0.d.f.ip6.arpa.":  "NOERROR",
		"g.4.4.2.0.0.0.d.f.ip6.arpa.":  "NXDOMAIN",
		"10.4.4.2.0.0.0.d.f.ip6.arpa.": "NXDOMAIN",
		"arpa.":                        "NXDOMAIN",
	} {
		require.Equal(t, want, text(ask(t, alone, "udp", name, dns.TypePTR)), name)
	}
	for name, authoritative := range map[string]bool{
		"10.in-addr.arpa.": false, "96.10.in-addr.arpa.": true, "x.96.10.in-addr.arpa.": true, "112.10.in-addr.arpa.": false, "4.4.2.0.0.0.d.f.ip6.arpa.": true,
	} {
		require.Equal(t, authoritative, ask(t, helped, "udp", name, dns.TypePTR).Authoritative, name)
	}
}

func TestTransferIsRefused(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled(), Upstream: []netip.AddrPort{upstream(t)}})
	for _, kind := range []uint16{dns.TypeAXFR, dns.TypeIXFR} {
		for _, name := range []string{"cluster.local.", "svc.cluster.local.", "10.in-addr.arpa."} {
			require.Equal(t, "REFUSED", text(ask(t, address, "tcp", name, kind)), "%s %s", name, dns.Type(kind))
		}
	}
}

// A connection takes one question after the other, and several at once.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled()})
	c, err := dns.DialTimeout("tcp", address, slow)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(slow)))
	for i := range 20 {
		m := new(dns.Msg).SetQuestion("web.shop.svc.cluster.local.", dns.TypeA)
		m.Id = uint16(i)
		require.NoError(t, c.WriteMsg(m))
	}
	seen := map[uint16]bool{}
	for range 20 {
		m, err := c.ReadMsg()
		require.NoError(t, err)
		require.Len(t, m.Answer, 1)
		seen[m.Id] = true
	}
	require.Len(t, seen, 20)
}

// More endpoints than a message holds: it is cut short and says so, even over TCP.
func TestTooMany(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled(crowd(6000))})
	for _, kind := range []uint16{dns.TypeA, dns.TypeSRV} {
		reply := ask(t, address, "tcp", "crowd.shop.svc.cluster.local.", kind)
		require.True(t, reply.Truncated, dns.Type(kind))
		require.Greater(t, len(reply.Answer), 500, dns.Type(kind))
	}
}

// Clients that take the first address come to all of them.
func TestOrder(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: filled(crowd(4)), Upstream: []netip.AddrPort{upstream(t)}})
	first := map[string]int{}
	for range 200 {
		first[ask(t, address, "udp", "crowd.shop.svc.cluster.local.", dns.TypeA).Answer[0].(*dns.A).A.String()]++
	}
	require.Len(t, first, 4)
	for a, n := range first {
		require.Greater(t, n, 20, a)
	}
	for range 20 {
		reply := ask(t, address, "udp", "out.shop.svc.cluster.local.", dns.TypeA)
		require.IsType(t, &dns.CNAME{}, reply.Answer[0])
	}
}

// Without knowing the cluster nobody is told that a name does not exist, and names of elsewhere are found all the same.
func TestNotReady(t *testing.T) {
	t.Parallel()
	address := start(t, server.Config{Store: new(records.Store), Upstream: []netip.AddrPort{upstream(t)}, Pods: true})
	for _, name := range []string{"web.shop.svc.cluster.local.", "cluster.local.", "dns-version.cluster.local.", "10-1-1-1.shop.pod.cluster.local.", "10.0.96.10.in-addr.arpa."} {
		for _, kind := range []uint16{dns.TypeA, dns.TypeSRV, dns.TypePTR, dns.TypeSOA, dns.TypeANY} {
			require.Equal(t, "SERVFAIL", text(ask(t, address, "udp", name, kind)), name)
		}
	}
	require.Equal(t, "NOERROR: api.example.test. A 192.0.2.7", text(ask(t, address, "udp", "api.example.test.", dns.TypeA)))
}

// stubborn is an upstream server that answers long questions over TCP only.
func stubborn(t *testing.T) netip.AddrPort {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	require.NoError(t, err)
	var all []dns.RR
	for i := range 200 {
		rr, err := dns.NewRR(fmt.Sprintf("many.example.test. 60 IN A 198.51.100.%d", i+1))
		require.NoError(t, err)
		all = append(all, rr)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		if m.Answer = all; w.LocalAddr().Network() == "udp" {
			m.Answer, m.Truncated = nil, true
		}
		_ = w.WriteMsg(m)
	})
	servers := []*dns.Server{{Listener: listener, Handler: handler}, {PacketConn: packets, Handler: handler}}
	done := make(chan struct{})
	for _, s := range servers {
		go func() { _ = s.ActivateAndServe(); done <- struct{}{} }()
	}
	t.Cleanup(func() {
		_, _ = listener.Close(), packets.Close()
		for range servers {
			<-done
		}
	})
	return netip.MustParseAddrPort(listener.Addr().String())
}

func TestUpstreamOverTCP(t *testing.T) {
	t.Parallel()
	store := filled(func(e *records.Edit) {
		e.SetService(service("many", func(s *corev1.ServiceSpec) {
			s.Type, s.ExternalName = corev1.ServiceTypeExternalName, "many.example.test"
		}))
	})
	address := start(t, server.Config{Store: store, Upstream: []netip.AddrPort{stubborn(t)}})
	require.True(t, ask(t, address, "udp", "many.example.test.", dns.TypeA).Truncated)
	require.Len(t, ask(t, address, "tcp", "many.example.test.", dns.TypeA).Answer, 200)
	require.True(t, ask(t, address, "udp", "many.shop.svc.cluster.local.", dns.TypeA).Truncated)
	reply := ask(t, address, "tcp", "many.shop.svc.cluster.local.", dns.TypeA)
	require.Len(t, reply.Answer, 201)
	require.Equal(t, "many.shop.svc.cluster.local.", reply.Answer[0].Header().Name)
}

// Of two upstream servers one is silent: nobody waits as long as clients do before they give up.
func TestUpstreamIsSlow(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	address := start(t, server.Config{Store: filled(), Upstream: []netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String()), upstream(t)}})
	var took []time.Duration
	for range 8 {
		begin := time.Now()
		require.Equal(t, "NOERROR: api.example.test. A 192.0.2.7", text(ask(t, address, "udp", "api.example.test.", dns.TypeA)))
		took = append(took, time.Since(begin))
	}
	require.Less(t, slices.Max(took), 5*time.Second, strings.Join([]string{fmt.Sprint(took)}, " "))
	// Alone it makes an answer that says so, in time.
	address = start(t, server.Config{Store: filled(), Upstream: []netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String())}})
	begin := time.Now()
	require.Equal(t, "SERVFAIL", text(ask(t, address, "udp", "api.example.test.", dns.TypeA)))
	require.Less(t, time.Since(begin), 5*time.Second)
}
