package server_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/podplumb/podplumb/examples/dns/records"
	"github.com/podplumb/podplumb/examples/dns/server"
)

const slow = 20 * time.Second // for a machine that has much else to do

func ptr[T any](v T) *T { return &v }

func tcp(name string, port int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Protocol: corev1.ProtocolTCP, Port: port}
}

func service(name string, change func(*corev1.ServiceSpec)) *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	change(&svc.Spec)
	return svc
}

func slice(owner, name string, family discoveryv1.AddressType, ports []discoveryv1.EndpointPort, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: owner}},
		AddressType: family, Ports: ports, Endpoints: endpoints,
	}
}

func endpointPort(name string, number int32) discoveryv1.EndpointPort {
	return discoveryv1.EndpointPort{Name: &name, Protocol: ptr(corev1.ProtocolTCP), Port: &number}
}

func endpoint(hostname string, ready bool, addresses ...string) discoveryv1.Endpoint {
	e := discoveryv1.Endpoint{Addresses: addresses, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
	if hostname != "" {
		e.Hostname = &hostname
	}
	return e
}

// fill makes one Service of every sort.
func fill(e *records.Edit) {
	e.SetNamespace("empty")
	e.SetService(service("web", func(s *corev1.ServiceSpec) {
		s.ClusterIP, s.ClusterIPs = "10.96.0.10", []string{"10.96.0.10", "fd00:96::a"}
		s.Ports = []corev1.ServicePort{tcp("http", 80), tcp("metrics", 9090), {Name: "dns", Protocol: corev1.ProtocolUDP, Port: 53}}
	}))
	e.SetSlice(slice("web", "web-a", discoveryv1.AddressTypeIPv4, []discoveryv1.EndpointPort{endpointPort("http", 8080)}, endpoint("", true, "10.244.0.9")))
	e.SetService(service("one", func(s *corev1.ServiceSpec) { s.ClusterIP, s.Ports = "10.96.0.11", []corev1.ServicePort{tcp("", 80)} }))
	e.SetService(service("db", func(s *corev1.ServiceSpec) {
		s.ClusterIP, s.Ports = corev1.ClusterIPNone, []corev1.ServicePort{tcp("sql", 5432)}
	}))
	sql := []discoveryv1.EndpointPort{endpointPort("sql", 5432)}
	e.SetSlice(slice("db", "db-4", discoveryv1.AddressTypeIPv4, sql, endpoint("db-0", true, "10.244.0.5"), endpoint("", true, "10.244.1.5"), endpoint("db-2", false, "10.244.1.6")))
	e.SetSlice(slice("db", "db-6", discoveryv1.AddressTypeIPv6, sql, endpoint("db-0", true, "fd00:244::5"), endpoint("", true, "fd00:244:1::5")))
	e.SetService(service("none", func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }))
	e.SetService(service("early", func(s *corev1.ServiceSpec) {
		s.ClusterIP, s.PublishNotReadyAddresses = corev1.ClusterIPNone, true
	}))
	e.SetSlice(slice("early", "early", discoveryv1.AddressTypeIPv4, nil, endpoint("", false, "10.244.0.77")))
	alias := func(name, target string) {
		e.SetService(service(name, func(s *corev1.ServiceSpec) { s.Type, s.ExternalName = corev1.ServiceTypeExternalName, target }))
	}
	alias("out", "api.example.test")
	alias("gone", "gone.example.test.")
	alias("in", "web.shop.svc.cluster.local")
	alias("astray", "nobody.shop.svc.cluster.local")
	alias("loop", "pool.shop.svc.cluster.local")
	alias("pool", "loop.shop.svc.cluster.local")
}

// upstream is a DNS server for example.test.
func upstream(t *testing.T) netip.AddrPort {
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		switch {
		case r.Question[0].Name == "api.example.test." && r.Question[0].Qtype == dns.TypeA:
			rr, _ := dns.NewRR("api.example.test. 60 IN A 192.0.2.7")
			m.Answer = []dns.RR{rr}
		case r.Question[0].Name == "gone.example.test.":
			m.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(m)
	})
	up := &dns.Server{PacketConn: packets, Handler: handler}
	done := make(chan struct{})
	go func() { defer close(done); _ = up.ActivateAndServe() }()
	t.Cleanup(func() { _ = packets.Close(); <-done })
	return netip.MustParseAddrPort(packets.LocalAddr().String())
}

// start serves on a loopback address and returns it.
func start(t *testing.T, config server.Config) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	packets, err := net.ListenPacket("udp", listener.Addr().String())
	require.NoError(t, err)
	config.Listeners, config.Packets = []net.Listener{listener}, []net.PacketConn{packets}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- server.Serve(ctx, config) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	return listener.Addr().String()
}

func ask(t *testing.T, address, network, name string, kind uint16, change ...func(*dns.Msg)) *dns.Msg {
	t.Helper()
	m := new(dns.Msg).SetQuestion(name, kind)
	for _, c := range change {
		c(m)
	}
	client := dns.Client{Net: network, Timeout: slow}
	reply, _, err := client.ExchangeContext(t.Context(), m, address)
	require.NoError(t, err)
	return reply
}

// text prints a reply for tables: the code, the answers without TTL, and the additional section behind a +.
func text(m *dns.Msg) string {
	lines := func(rrs []dns.RR) string {
		var all []string
		for _, rr := range rrs {
			if rr.Header().Rrtype != dns.TypeOPT {
				all = append(all, strings.Join(strings.Fields(strings.Replace(rr.String(), fmt.Sprintf("\t%d\tIN\t", rr.Header().Ttl), " ", 1)), " "))
			}
		}
		slices.Sort(all)
		return strings.Join(all, "; ")
	}
	out := dns.RcodeToString[m.Rcode]
	if len(m.Answer) > 0 {
		out += ": " + lines(m.Answer)
	}
	if extra := lines(m.Extra); extra != "" {
		out += " + " + extra
	}
	return out
}

func TestSpecification(t *testing.T) {
	t.Parallel()
	store := new(records.Store)
	store.Update(fill)
	address := start(t, server.Config{
		Store: store, Upstream: []netip.AddrPort{upstream(t)}, Addresses: []netip.Addr{netip.MustParseAddr("10.96.0.2"), netip.MustParseAddr("fd00:96::2")},
		Reverse: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16"), netip.MustParsePrefix("10.244.0.0/16"), netip.MustParsePrefix("fd00:244::/32")}, Pods: true,
	})
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		// 2.2 the version
		{"dns-version.cluster.local.", dns.TypeTXT, `NOERROR: dns-version.cluster.local. TXT "1.1.0"`},
		{"dns-version.cluster.local.", dns.TypeA, "NOERROR"},
		// 2.3 a Service with cluster IPs
		{"web.shop.svc.cluster.local.", dns.TypeA, "NOERROR: web.shop.svc.cluster.local. A 10.96.0.10"},
		{"web.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR: web.shop.svc.cluster.local. AAAA fd00:96::a"},
		{"one.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR"},
		{"WEB.shop.SVC.cluster.local.", dns.TypeA, "NOERROR: WEB.shop.SVC.cluster.local. A 10.96.0.10"},
		{"_http._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR: _http._tcp.web.shop.svc.cluster.local. SRV 0 50 80 web.shop.svc.cluster.local. + " +
			"web.shop.svc.cluster.local. A 10.96.0.10; web.shop.svc.cluster.local. AAAA fd00:96::a"},
		{"_dns._udp.web.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR: _dns._udp.web.shop.svc.cluster.local. SRV 0 50 53 web.shop.svc.cluster.local. + " +
			"web.shop.svc.cluster.local. A 10.96.0.10; web.shop.svc.cluster.local. AAAA fd00:96::a"},
		{"_http._udp.web.shop.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
		{"_nope._tcp.web.shop.svc.cluster.local.", dns.TypeSRV, "NXDOMAIN"},
		{"10.0.96.10.in-addr.arpa.", dns.TypePTR, "NOERROR: 10.0.96.10.in-addr.arpa. PTR web.shop.svc.cluster.local."},
		{"10.0.96.10.in-addr.arpa.", dns.TypeA, "NOERROR"},
		{"10.0.96.10.IN-ADDR.arpa.", dns.TypePTR, "NOERROR: 10.0.96.10.IN-ADDR.arpa. PTR web.shop.svc.cluster.local."},
		// 2.4 headless
		{"db.shop.svc.cluster.local.", dns.TypeA, "NOERROR: db.shop.svc.cluster.local. A 10.244.0.5; db.shop.svc.cluster.local. A 10.244.1.5"},
		{"db.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR: db.shop.svc.cluster.local. AAAA fd00:244:1::5; db.shop.svc.cluster.local. AAAA fd00:244::5"},
		{"db-0.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR: db-0.db.shop.svc.cluster.local. A 10.244.0.5"},
		{"db-0.db.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR: db-0.db.shop.svc.cluster.local. AAAA fd00:244::5"},
		{"10-244-1-5.db.shop.svc.cluster.local.", dns.TypeA, "NOERROR: 10-244-1-5.db.shop.svc.cluster.local. A 10.244.1.5"},
		{"db-2.db.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"_sql._tcp.db.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR: _sql._tcp.db.shop.svc.cluster.local. SRV 0 25 5432 10-244-1-5.db.shop.svc.cluster.local.; " +
			"_sql._tcp.db.shop.svc.cluster.local. SRV 0 25 5432 db-0.db.shop.svc.cluster.local.; " +
			"_sql._tcp.db.shop.svc.cluster.local. SRV 0 25 5432 fd00-244-1--5.db.shop.svc.cluster.local. + " +
			"10-244-1-5.db.shop.svc.cluster.local. A 10.244.1.5; db-0.db.shop.svc.cluster.local. A 10.244.0.5; " +
			"db-0.db.shop.svc.cluster.local. AAAA fd00:244::5; fd00-244-1--5.db.shop.svc.cluster.local. AAAA fd00:244:1::5"},
		{"5.0.244.10.in-addr.arpa.", dns.TypePTR, "NOERROR: 5.0.244.10.in-addr.arpa. PTR db-0.db.shop.svc.cluster.local."},
		{"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.0.d.f.ip6.arpa.", dns.TypePTR, "NOERROR: " +
			"5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.4.4.2.0.0.0.d.f.ip6.arpa. PTR db-0.db.shop.svc.cluster.local."},
		{"5.0.244.10.in-addr.arpa.", dns.TypeA, "NOERROR"},
		{"none.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"early.shop.svc.cluster.local.", dns.TypeA, "NOERROR: early.shop.svc.cluster.local. A 10.244.0.77"},
		{"early.shop.svc.cluster.local.", dns.TypeSRV, "NOERROR"},
		// 2.5 names of elsewhere
		{"out.shop.svc.cluster.local.", dns.TypeA, "NOERROR: api.example.test. A 192.0.2.7; out.shop.svc.cluster.local. CNAME api.example.test."},
		{"out.shop.svc.cluster.local.", dns.TypeAAAA, "NOERROR: out.shop.svc.cluster.local. CNAME api.example.test."},
		{"out.shop.svc.cluster.local.", dns.TypeCNAME, "NOERROR: out.shop.svc.cluster.local. CNAME api.example.test."},
		{"gone.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN: gone.shop.svc.cluster.local. CNAME gone.example.test."},
		{"in.shop.svc.cluster.local.", dns.TypeA, "NOERROR: in.shop.svc.cluster.local. CNAME web.shop.svc.cluster.local.; web.shop.svc.cluster.local. A 10.96.0.10"},
		{"astray.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN: astray.shop.svc.cluster.local. CNAME nobody.shop.svc.cluster.local."},
		// names that only have names below them, and names that do not exist
		{"cluster.local.", dns.TypeA, "NOERROR"},
		{"svc.cluster.local.", dns.TypeA, "NOERROR"},
		{"shop.svc.cluster.local.", dns.TypeA, "NOERROR"},
		{"empty.svc.cluster.local.", dns.TypeA, "NOERROR"},
		{"_tcp.web.shop.svc.cluster.local.", dns.TypeA, "NOERROR"},
		{"_sctp.web.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"nowhere.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"nobody.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"a.b.c.web.shop.svc.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"web.shop.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"web.shop.svc.cluster.local.", dns.TypeMX, "NOERROR"},
		{"nobody.shop.svc.cluster.local.", dns.TypeMX, "NXDOMAIN"},
		{"nobody.shop.svc.cluster.local.", dns.TypeTXT, "NXDOMAIN"},
		// the zone itself
		{"cluster.local.", dns.TypeSOA, "NOERROR: cluster.local. SOA ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5"},
		{"cluster.local.", dns.TypeNS, "NOERROR: cluster.local. NS ns.dns.cluster.local. + ns.dns.cluster.local. A 10.96.0.2; ns.dns.cluster.local. AAAA fd00:96::2"},
		{"ns.dns.cluster.local.", dns.TypeAAAA, "NOERROR: ns.dns.cluster.local. AAAA fd00:96::2"},
		{"dns.cluster.local.", dns.TypeA, "NOERROR"},
		// pods
		{"10-244-0-9.shop.pod.cluster.local.", dns.TypeA, "NOERROR: 10-244-0-9.shop.pod.cluster.local. A 10.244.0.9"},
		{"fd00-244--5.shop.pod.cluster.local.", dns.TypeAAAA, "NOERROR: fd00-244--5.shop.pod.cluster.local. AAAA fd00:244::5"},
		{"10-244-0-9.nowhere.pod.cluster.local.", dns.TypeA, "NXDOMAIN"},
		{"hello.shop.pod.cluster.local.", dns.TypeA, "NXDOMAIN"},
		// elsewhere
		{"api.example.test.", dns.TypeA, "NOERROR: api.example.test. A 192.0.2.7"},
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, "NOERROR"},
		{"99.0.96.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
	} {
		for _, network := range []string{"udp", "tcp"} {
			reply := ask(t, address, network, c.name, c.kind)
			require.Equal(t, c.want, text(reply), "%s %s over %s", c.name, dns.Type(c.kind), network)
			if len(reply.Answer) == 0 && !strings.Contains(c.name, "example.test") && c.name != "1.2.0.192.in-addr.arpa." {
				require.Len(t, reply.Ns, 1, c.name)
				require.EqualValues(t, 5, reply.Ns[0].(*dns.SOA).Minttl, c.name)
			}
		}
	}
	for _, name := range []string{"loop.shop.svc.cluster.local.", "pool.shop.svc.cluster.local."} {
		require.LessOrEqual(t, len(ask(t, address, "udp", name, dns.TypeA).Answer), 9, "a circle of aliases ends")
	}
}

func TestUpstreamIsDead(t *testing.T) {
	t.Parallel()
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	require.NoError(t, err)
	defer silent.Close()
	store := new(records.Store)
	store.Update(fill)
	address := start(t, server.Config{Store: store, Upstream: []netip.AddrPort{netip.MustParseAddrPort(silent.LocalAddr().String())}})
	require.Equal(t, "NOERROR: out.shop.svc.cluster.local. CNAME api.example.test.", text(ask(t, address, "udp", "out.shop.svc.cluster.local.", dns.TypeA)))
	require.Equal(t, "SERVFAIL", text(ask(t, address, "udp", "api.example.test.", dns.TypeA)))
}

func TestNoUpstream(t *testing.T) {
	t.Parallel()
	store := new(records.Store)
	store.Update(fill)
	address := start(t, server.Config{Store: store})
	require.Equal(t, "NOERROR: out.shop.svc.cluster.local. CNAME api.example.test.", text(ask(t, address, "udp", "out.shop.svc.cluster.local.", dns.TypeA)))
	require.Equal(t, "NXDOMAIN", text(ask(t, address, "udp", "api.example.test.", dns.TypeA)))
}

// Before the first Update the answer is to ask again; afterwards every change shows with the next question.
func TestChanges(t *testing.T) {
	t.Parallel()
	store := new(records.Store)
	address := start(t, server.Config{Store: store, Zone: "corp.example"})
	name := "new.shop.svc.corp.example."
	require.Equal(t, "SERVFAIL", text(ask(t, address, "udp", name, dns.TypeA)))
	store.Update(func(*records.Edit) {})
	require.Equal(t, "NXDOMAIN", text(ask(t, address, "udp", name, dns.TypeA)))
	headless := service("new", func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone })
	store.Update(func(e *records.Edit) { e.SetService(headless) })
	for i := range 200 {
		ip := fmt.Sprintf("10.244.3.%d", i+1)
		store.Update(func(e *records.Edit) {
			e.SetSlice(slice("new", "new-a", discoveryv1.AddressTypeIPv4, nil, endpoint("", true, ip)))
		})
		require.Equal(t, "NOERROR: "+name+" A "+ip, text(ask(t, address, "udp", name, dns.TypeA)))
	}
	store.Update(func(e *records.Edit) { e.DropService("shop", "new") })
	require.Equal(t, "NXDOMAIN", text(ask(t, address, "udp", name, dns.TypeA)))
	require.Equal(t, "NXDOMAIN", text(ask(t, address, "udp", "shop.svc.corp.example.", dns.TypeA)))
	require.Empty(t, store.Snapshot().Names(netip.MustParseAddr("10.244.3.200")))
}

// An answer that does not fit a datagram is cut short, and whole over TCP or in a bigger datagram.
func TestTruncation(t *testing.T) {
	t.Parallel()
	store := new(records.Store)
	store.Update(func(e *records.Edit) {
		e.SetService(service("big", func(s *corev1.ServiceSpec) { s.ClusterIP = corev1.ClusterIPNone }))
		var endpoints []discoveryv1.Endpoint
		for i := range 100 {
			endpoints = append(endpoints, endpoint("", true, fmt.Sprintf("10.244.4.%d", i+1)))
		}
		e.SetSlice(slice("big", "big-a", discoveryv1.AddressTypeIPv4, nil, endpoints...))
	})
	address := start(t, server.Config{Store: store})
	name := "big.shop.svc.cluster.local."
	short := ask(t, address, "udp", name, dns.TypeA)
	require.True(t, short.Truncated)
	short.Compress = true
	require.LessOrEqual(t, short.Len(), dns.MinMsgSize)
	require.Len(t, ask(t, address, "tcp", name, dns.TypeA).Answer, 100)
	wide := ask(t, address, "udp", name, dns.TypeA, func(m *dns.Msg) { m.SetEdns0(4096, false) })
	require.False(t, wide.Truncated)
	require.Len(t, wide.Answer, 100)
	require.NotNil(t, wide.IsEdns0())
	require.Equal(t, dns.RcodeBadVers, ask(t, address, "udp", name, dns.TypeA, func(m *dns.Msg) {
		m.SetEdns0(1232, false)
		m.IsEdns0().SetVersion(7)
	}).Rcode)
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	store := new(records.Store)
	store.Update(fill)
	registry := prometheus.NewRegistry()
	address := start(t, server.Config{Store: store, Metrics: registry})
	ask(t, address, "udp", "web.shop.svc.cluster.local.", dns.TypeA)
	ask(t, address, "tcp", "nobody.shop.svc.cluster.local.", dns.TypeSRV)
	families, err := registry.Gather()
	require.NoError(t, err)
	var got []string
	for _, f := range families {
		for _, m := range f.Metric {
			if m.Counter != nil {
				var labels []string
				for _, l := range m.Label {
					labels = append(labels, l.GetValue())
				}
				got = append(got, fmt.Sprint(labels, m.Counter.GetValue()))
			}
		}
	}
	require.ElementsMatch(t, []string{"[udp NOERROR A] 1", "[tcp NXDOMAIN SRV] 1"}, got)
}

func TestConfigFaults(t *testing.T) {
	t.Parallel()
	err := server.Serve(t.Context(), server.Config{
		Zone: "a..b", TTL: -1, Upstream: []netip.AddrPort{{}}, Addresses: []netip.Addr{netip.IPv4Unspecified()},
		Reverse: []netip.Prefix{netip.MustParsePrefix("10.96.0.1/16")},
	})
	for _, field := range []string{"store: ", "zone: ", "listeners, packets: ", "ttl: ", "upstream[0]: ", "addresses[0]: ", "reverse[0]: 10.96.0.1/16 is not a range (did you mean 10.96.0.0/16?)"} {
		require.ErrorContains(t, err, field)
	}
}
