package policy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/policy"
)

// Policies judge the pod behind a service's address, and the client before its address is changed.
func TestBehindNAT(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	nstest.Hairpin(t, c.node.NS, "pod1")
	service := map[bool]netip.Addr{false: netip.MustParseAddr("10.96.0.10"), true: netip.MustParseAddr("fd96::10")}
	for v6, family := range map[bool]string{false: "ip", true: "ip6"} {
		to := netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080)
		nstest.Run(t, c.node.NS, "nft", fmt.Sprintf(`table %[1]s service {
			chain pre { type nat hook prerouting priority -100; %[1]s daddr %[2]s meta l4proto { tcp, udp } th dport 80 dnat to %[3]s; }
			chain out { type nat hook output priority -100; %[1]s daddr %[2]s meta l4proto { tcp, udp } th dport 80 dnat to %[3]s; }
			chain post { type nat hook postrouting priority 100; ct status dnat masquerade; }
		}`, family, service[v6], to))
	}
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	sync(t, cl, c.with(t, allowWeb,
		`{"metadata":{"namespace":"default","name":"to-db"},"spec":{"podSelector":{"matchLabels":{"app":"web"}},"policyTypes":["Egress"],"egress":[{"to":[{"podSelector":{"matchLabels":{"app":"db"}}}],"ports":[{"port":8080},{"port":8080,"protocol":"UDP"}]}]}}`,
		`{"metadata":{"namespace":"default","name":"db-out"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"policyTypes":["Egress"]}}`))
	for v6, addr := range service {
		at := netip.AddrPortFrom(addr, 80)
		for _, network := range []string{"tcp", "udp"} {
			for from, want := range map[string]bool{"web": true, "probe": false, "node0": true, "db": true} {
				require.Equal(t, want, reaches(c.ends[from].NS, network, at, want), "%s, %s, v6 %t", from, network, v6)
			}
		}
	}
}

// Pods that the node routes to without a bridge.
func TestRouted(t *testing.T) {
	needs(t)
	node := nstest.New(t)
	nstest.Forward(t, node)
	c := &cluster{node: nstest.Node{End: nstest.End{NS: node}}, ends: map[string]nstest.End{}}
	c.state.Nodes = []policy.Node{{Meta: policy.Meta{Name: "node0"}}}
	for i, name := range []string{"web", "db", "probe"} {
		link := "pod" + name
		gw := nstest.End{NS: node, Link: link, V4: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.1/24", i)), V6: netip.MustParsePrefix(fmt.Sprintf("fd44:0:0:%d::1/64", i))}
		e := nstest.End{NS: nstest.New(t), Link: "eth0", V4: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.2/24", i)), V6: netip.MustParsePrefix(fmt.Sprintf("fd44:0:0:%d::2/64", i))}
		nstest.Join(t, node, link, e.NS, e.Link)
		nstest.Address(t, gw)
		nstest.Address(t, e)
		nstest.DefaultRoutes(t, e.NS, gw.Addrs()...)
		c.ends[name] = e
		c.state.Nodes[0].Status.Addresses = append(c.state.Nodes[0].Status.Addresses, policy.NodeAddress{Address: gw.V4.Addr().String()}, policy.NodeAddress{Address: gw.V6.Addr().String()})
		if i == 0 {
			c.ends["node0"] = gw
		}
		c.state.Pods = append(c.state.Pods, policy.Pod{
			Meta:   policy.Meta{Namespace: "default", Name: name, Labels: map[string]string{"app": name}},
			Spec:   policy.PodSpec{NodeName: "node0"},
			Status: policy.PodStatus{PodIPs: []policy.PodIP{{IP: e.V4.Addr().String()}, {IP: e.V6.Addr().String()}}},
		})
		c.serve(t, name, 8080)
	}
	c.serve(t, "node0", 9090)
	s := c.with(t, allowWeb, `{"metadata":{"namespace":"default","name":"probe"},"spec":{"podSelector":{"matchLabels":{"app":"probe"}},"policyTypes":["Egress"]}}`,
		`{"metadata":{"name":"nodes"},"spec":{"tier":"Admin","priority":1,"subject":{"pods":{"namespaceSelector":{},"podSelector":{"matchLabels":{"app":"web"}}}},"egress":[{"action":"Deny","to":[{"nodes":{}}]}]}}`)
	cl := client(t, node, func(c *policy.Config) { c.Node = "node0" })
	sync(t, cl, s)
	c.matrix(t, s, []uint16{8080}, []string{"web", "db", "probe", "node0"}, []string{"web", "db", "probe"})
	// Isolation leaves a pod its own node, an administrator's rule need not.
	c.matrix(t, s, []uint16{9090}, []string{"web", "db", "probe"}, []string{"node0"})
}

// Protocols without a socket here: what arrives is seen on the receiver's link.
func TestOtherProtocols(t *testing.T) {
	needs(t)
	c := newCluster(t)
	cl := client(t, c.node.NS, func(c *policy.Config) { c.Node = "node0" })
	s := c.with(t,
		`{"metadata":{"namespace":"default","name":"sctp"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[
			{"from":[{"podSelector":{"matchLabels":{"app":"web"}}}],"ports":[{"port":7000,"protocol":"SCTP"}]},
			{"from":[{"podSelector":{"matchLabels":{"app":"far-web"}}}]}]}}`)
	sync(t, cl, s)
	e := policy.NewEvaluator(s)
	seen := nstest.StartCapture(t, c.ends["db"].NS, "eth0")
	type sent struct {
		policy.Packet
		number uint8
		mark   byte
	}
	var all []sent
	for _, v6 := range []bool{false, true} {
		for _, from := range []string{"web", "probe", "far-web", "far-db", "node0"} {
			for _, p := range []sent{
				{Packet: policy.Packet{Protocol: policy.SCTP, Port: 7000}, number: 132},
				{Packet: policy.Packet{Protocol: policy.SCTP, Port: 7001}, number: 132},
				{Packet: policy.Packet{Protocol: "ICMP"}, number: map[bool]uint8{false: 1, true: 58}[v6]},
				{Packet: policy.Packet{Protocol: "GRE"}, number: 47},
			} {
				p.Src, p.Dst, p.mark = c.ends[from].Addr(v6), c.ends["db"].Addr(v6), byte(len(all)+1)
				raw(t, c.ends[from].NS, p.number, p.Dst, message(p.number, p.Port, p.mark))
				all = append(all, p)
			}
		}
	}
	// What passes after all of them says that they had their time.
	raw(t, c.ends["far-web"].NS, 47, c.ends["db"].Addr(false), message(47, 0, 255))
	arrived := func(number uint8, src netip.Addr, mark byte) func(nstest.Packet) bool {
		return func(p nstest.Packet) bool {
			// The node sends from its bridge's address.
			return !p.Outgoing && p.Protocol == number && p.Src.Addr().Is6() == src.Is6() && bytes.HasSuffix(p.Payload, []byte{0, mark})
		}
	}
	for _, p := range all {
		if e.Evaluate(p.Packet).Allowed {
			seen.Wait(t, p.Packet.String(), arrived(p.number, p.Src, p.mark))
		}
	}
	seen.Wait(t, "last", arrived(47, c.ends["far-web"].Addr(false), 255))
	denied := 0
	for _, p := range all {
		if v := e.Evaluate(p.Packet); !v.Allowed {
			denied++
			require.Empty(t, seen.Packets(arrived(p.number, p.Src, p.mark)), "%s: %s", p.Packet, v)
		}
	}
	require.NotZero(t, denied)
}

// message is an SCTP INIT, an ICMP echo request or just bytes, which end with a zero and a mark: the addresses
// that neighbours tell each other end with any byte.
func message(number uint8, port uint16, mark byte) []byte {
	switch number {
	case 132:
		b := make([]byte, 12+20+8)
		binary.BigEndian.PutUint16(b, 40000+uint16(mark))
		binary.BigEndian.PutUint16(b[2:], port)
		b[12] = 1                               // INIT
		binary.BigEndian.PutUint16(b[14:], 28)  // length, with a parameter
		binary.BigEndian.PutUint32(b[16:], 1)   // initiate tag
		binary.BigEndian.PutUint32(b[20:], 1e5) // window
		binary.BigEndian.PutUint16(b[24:], 1)   // streams
		binary.BigEndian.PutUint16(b[26:], 1)
		binary.BigEndian.PutUint16(b[32:], 0x8009) // a parameter to be passed over
		binary.BigEndian.PutUint16(b[34:], 8)
		b[len(b)-1] = mark
		binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
		return b
	case 1:
		b := []byte{8, 0, 0, 0, mark, 1, 0, 1, 0, mark}
		sum := uint32(0)
		for i := 0; i < len(b); i += 2 {
			sum += uint32(b[i])<<8 | uint32(b[i+1])
		}
		for sum>>16 != 0 {
			sum = sum&0xffff + sum>>16
		}
		binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
		return b
	case 58:
		return []byte{128, 0, 0, 0, mark, 1, 0, 1, 0, mark} // the kernel fills in the checksum
	}
	return []byte{0, 0, 0x65, 0x58, 0, mark}
}

// raw sends a packet of any protocol.
func raw(t *testing.T, ns *netns.NS, number uint8, to netip.Addr, b []byte) {
	t.Helper()
	network, local := fmt.Sprintf("ip4:%d", number), "0.0.0.0"
	if to.Is6() {
		network, local = fmt.Sprintf("ip6:%d", number), "::"
	}
	conn, err := ns.ListenPacket(context.Background(), network, local)
	require.NoError(t, err)
	defer conn.Close()
	_, err = conn.WriteTo(b, &net.IPAddr{IP: to.AsSlice()})
	require.NoError(t, err)
}

// A node port on the pod's own node shows the client's address, even if it is masqueraded afterwards; one on another node shows that node.
func TestNodePort(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	for i, n := range c.Nodes {
		for v6, family := range map[bool]string{false: "ip", true: "ip6"} {
			nstest.Run(t, n.NS, "nft", fmt.Sprintf(`table %[1]s nodeport {
				chain pre { type nat hook prerouting priority -100; fib daddr type local meta l4proto { tcp, udp } th dport 30080 dnat to %[2]s; }
				chain post { type nat hook postrouting priority 100; ct status dnat masquerade; }
			}`, family, netip.AddrPortFrom(c.ends["db"].Addr(v6), 8080)))
		}
		cl := client(t, n.NS, func(c *policy.Config) { c.Node = fmt.Sprintf("node%d", i) })
		sync(t, cl, c.with(t, fmt.Sprintf(`{"metadata":{"namespace":"default","name":"db"},"spec":{"podSelector":{"matchLabels":{"app":"db"}},"ingress":[
			{"from":[{"ipBlock":{"cidr":"%s/32"}},{"ipBlock":{"cidr":"%s/128"}}]}]}}`, c.ends["outside"].Addr(false), c.ends["outside"].Addr(true))))
	}
	ask := func(from, node string, want bool) {
		t.Helper()
		for _, v6 := range []bool{false, true} {
			for _, network := range []string{"tcp", "udp"} {
				at := netip.AddrPortFrom(c.ends[node].Addr(v6), 30080)
				require.Equal(t, want, reaches(c.ends[from].NS, network, at, want), "%s to %s over %s", from, at, network)
			}
		}
	}
	ask("outside", "node0", true)  // as the client
	ask("outside", "node1", false) // as node1
	ask("probe", "node0", false)   // as the pod that it is
}
