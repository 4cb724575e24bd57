package nat_test

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/podplumb/podplumb/nat"
)

func ExampleCapture() {
	s := nat.State{Capture: nat.Capture{
		Outbound: 15001, Inbound: 15006, DNS: 15053,
		Ports: []uint16{8080}, // what listens in the pod
		Except: nat.Except{
			Users: []uint32{1337}, // the proxy itself
			From:  []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")},
		},
	}}
	fmt.Print(nat.Diff(nat.State{}, s))

	pod, other := netip.MustParseAddr("10.244.0.10"), netip.MustParseAddr("10.244.1.11")
	out := nat.Packet{
		Proto: nat.TCP, FromHost: true, User: 1000,
		Src: netip.AddrPortFrom(pod, 40000), Dst: netip.AddrPortFrom(other, 80),
	}
	fmt.Print(nat.Explain(s, out))
	out.User = 1337
	fmt.Print(nat.Explain(s, out))
	in := nat.Packet{
		Proto: nat.TCP, ToHost: true,
		Src: netip.AddrPortFrom(other, 40000), Dst: netip.AddrPortFrom(pod, 8080),
	}
	fmt.Print(nat.Explain(s, in))
	in.Dst = netip.AddrPortFrom(pod, 15006)
	fmt.Print(nat.Explain(s, in))
	// Output:
	// + capture outbound to port 15001
	// + capture inbound to port 15006
	// + capture dns to port 15053
	// + capture port 8080
	// + capture except user 1337
	// + capture except from 192.0.2.1/32
	// captured by capture outbound
	//   100.0% 127.0.0.1:15001
	// untouched by capture outbound, which excepts user 1337
	//   100.0% 10.244.1.11:80
	// captured by capture inbound
	//   100.0% 0.0.0.0:15006
	// rejected by capture inbound, whose port nobody reaches directly
}

func ExampleOriginalDst() {
	l, err := net.Listen("tcp", ":15001")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer l.Close()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		to, err := nat.OriginalDst(conn)
		if err != nil { // nat.ErrNotCaptured: it has no business here
			conn.Close()
			continue
		}
		go proxyTo(conn, to)
	}
}

func proxyTo(conn net.Conn, _ netip.AddrPort) { conn.Close() }
