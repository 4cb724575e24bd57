//go:build linux

package policy_test

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/policy"
)

// wire is a sender whose frames, from and to whatever address, a router passes on to a listener.
type wire struct {
	from     nstest.End
	router   *netns.NS
	seen     *nstest.Capture
	dst, src net.HardwareAddr
}

func newWire(t *testing.T) *wire {
	t.Helper()
	w := &wire{router: nstest.New(t)}
	end := func(ns *netns.NS, link, four, six string) nstest.End {
		return nstest.End{NS: ns, Link: link, V4: netip.MustParsePrefix(four), V6: netip.MustParsePrefix(six)}
	}
	w.from = end(nstest.New(t), "eth0", "198.51.100.2/30", "2001:db8:ffff::2/64")
	to := end(nstest.New(t), "eth0", "198.51.100.6/30", "2001:db8:fffe::2/64")
	near, far := end(w.router, "near", "198.51.100.1/30", "2001:db8:ffff::1/64"), end(w.router, "far", "198.51.100.5/30", "2001:db8:fffe::1/64")
	nstest.Join(t, w.router, near.Link, w.from.NS, w.from.Link)
	nstest.Join(t, w.router, far.Link, to.NS, to.Link)
	for _, e := range []nstest.End{w.from, to, near, far} {
		nstest.Address(t, e)
	}
	nstest.Forward(t, w.router)
	for _, key := range []string{"all", "near", "far"} {
		require.NoError(t, w.router.SetSysctl("net.ipv4.conf."+key+".rp_filter", "0"))
	}
	nstest.DefaultRoutes(t, w.router, to.Addrs()...)
	w.seen = nstest.StartCapture(t, to.NS, to.Link)
	require.NoError(t, w.from.NS.Do(func() error {
		own, err := net.InterfaceByName("eth0")
		if err == nil {
			w.src = own.HardwareAddr
		}
		return err
	}))
	require.NoError(t, w.router.Do(func() error {
		router, err := net.InterfaceByName("near")
		if err == nil {
			w.dst = router.HardwareAddr
		}
		return err
	}))
	return w
}

// send puts packets on the wire.
func (w *wire) send(t *testing.T, list []policy.Packet) {
	t.Helper()
	require.NoError(t, w.from.NS.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		for i, p := range list {
			frame := append(append(append([]byte{}, w.dst...), w.src...), ipPacket(p, uint16(10000+i))...)
			if err := unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: link.Index}); err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
		}
		return nil
	}))
}

// ipPacket is the EtherType and the packet, with an own source port or a number in its place.
func ipPacket(p policy.Packet, source uint16) []byte {
	number := map[policy.Protocol]uint8{policy.TCP: 6, policy.UDP: 17, policy.SCTP: 132, "ICMP": 1}[p.Protocol]
	if number == 1 && p.Src.Is6() {
		number = 58
	}
	var body []byte
	at := -1 // where the checksum stands
	switch number {
	case 6:
		body, at = make([]byte, 20), 16
		body[12], body[13] = 5<<4, 2 // SYN
	case 17:
		body, at = make([]byte, 8), 6
		body[5] = 8
	case 132:
		body = message(132, p.Port, 0)
	default:
		body, at = []byte{8, 0, 0, 0, 0, 0, 0, 1}, 2
		if number == 58 {
			body[0] = 128
		}
		binary.BigEndian.PutUint16(body[4:], source)
	}
	if number != 1 && number != 58 {
		binary.BigEndian.PutUint16(body, source)
		binary.BigEndian.PutUint16(body[2:], p.Port)
	}
	if number == 132 {
		clear(body[8:12])
		binary.LittleEndian.PutUint32(body[8:], crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli)))
	}
	pseudo := append(p.Src.AsSlice(), p.Dst.AsSlice()...)
	if at >= 0 {
		sum := uint32(0)
		if number != 1 {
			sum = add(add(0, pseudo), []byte{0, number, byte(len(body) >> 8), byte(len(body))})
		}
		binary.BigEndian.PutUint16(body[at:], fold(add(sum, body)))
	}
	if p.Src.Is6() {
		head := []byte{0x86, 0xdd, 6 << 4, 0, 0, 0, byte(len(body) >> 8), byte(len(body)), number, 64}
		return append(append(head, pseudo...), body...)
	}
	n := 20 + len(body)
	head := append([]byte{4<<4 | 5, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, number, 0, 0}, pseudo...)
	binary.BigEndian.PutUint16(head[10:], fold(add(0, head)))
	return append(append([]byte{8, 0}, head...), body...)
}

func add(sum uint32, b []byte) uint32 {
	for i := 0; i+1 < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	return sum
}

func fold(sum uint32) uint16 {
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// source is the number that ipPacket gave a captured packet.
func source(p nstest.Packet) uint16 {
	switch {
	case p.Protocol == 6 || p.Protocol == 17:
		return p.Src.Port()
	case len(p.Payload) < 8:
		return 0
	case p.Protocol == 132:
		return binary.BigEndian.Uint16(p.Payload)
	}
	return binary.BigEndian.Uint16(p.Payload[4:])
}

// valid leaves out what an API server would.
func valid(s policy.State) policy.State {
	s.Policies = lacking(s.Policies, func(p policy.NetworkPolicy) bool {
		return policy.State{Policies: []policy.NetworkPolicy{p}}.Validate() != nil
	})
	s.ClusterPolicies = lacking(s.ClusterPolicies, func(p policy.ClusterNetworkPolicy) bool {
		return policy.State{ClusterPolicies: []policy.ClusterNetworkPolicy{p}}.Validate() != nil
	})
	return s
}

// The kernel lets pass of random worlds what Evaluate allows, and nothing else; by whole rulesets and by changes.
func TestWorlds(t *testing.T) {
	needs(t)
	w := newWire(t)
	c := client(t, w.router, func(c *policy.Config) { c.KeepLive = true })
	allowed, denied := 0, 0
	for seed := range uint64(12) {
		d := newDice(1000+seed, false)
		s := valid(d.state(2+d.IntN(5), 8, 5))
		if seed%3 == 0 {
			sync(t, c, s)
		} else {
			update(t, c, policy.Change{Set: s})
		}
		all := ends(s)
		var list []policy.Packet
		for len(list) < 150 {
			p := policy.Packet{Protocol: pick(d, worldProtocols), Src: pick(d, all), Dst: pick(d, all), Port: pick(d, worldPorts[1:])}
			// A host drops a packet from itself, and the test's own documentation addresses are routed elsewhere.
			if p.Src.Is4() == p.Dst.Is4() && p.Src != p.Dst {
				list = append(list, p)
			}
		}
		before := len(w.seen.Packets(nil))
		e := policy.NewEvaluator(s)
		w.send(t, list)
		last := policy.Packet{Protocol: policy.UDP, Src: netip.MustParseAddr("203.0.113.1"), Dst: netip.MustParseAddr("203.0.113.2"), Port: uint16(1 + seed)}
		w.send(t, []policy.Packet{last})
		w.seen.Wait(t, "the last packet", func(p nstest.Packet) bool { return p.Dst == netip.AddrPortFrom(last.Dst, last.Port) })
		got := map[int]bool{}
		for _, p := range w.seen.Packets(nil)[before:] {
			if number := int(source(p)) - 10000; !p.Outgoing && number >= 0 && number < len(list) &&
				p.Src.Addr() == list[number].Src && p.Dst.Addr() == list[number].Dst {
				got[number] = true
			}
		}
		for i, p := range list {
			v := e.Evaluate(p)
			require.Equal(t, v.Allowed, got[i], "seed %d: %s: %s", seed, p, v)
			if v.Allowed {
				allowed++
			} else {
				denied++
			}
		}
		if seed%3 != 1 {
			update(t, c, policy.Change{Drop: everything(s)})
		} else {
			sync(t, c, policy.State{})
			sync(t, c, policy.State{Namespaces: s.Namespaces[:0], Nodes: s.Nodes})
			update(t, c, policy.Change{Drop: everything(policy.State{Nodes: s.Nodes})})
		}
	}
	t.Logf("%d allowed, %d denied", allowed, denied)
	require.NotZero(t, denied)
}
