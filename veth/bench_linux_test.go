package veth_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/veth"
)

// bare is a blocking rtnetlink socket on which requests are written by hand: the least that a change of the kernel can cost.
type bare struct {
	t   testing.TB
	fd  int
	buf [8192]byte
}

func newBare(t testing.TB, ns *netns.NS) *bare {
	t.Helper()
	s := &bare{t: t}
	require.NoError(t, ns.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	}))
	t.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

func (s *bare) close() { _ = unix.Close(s.fd) }

// do sends one request and returns what comes before its acknowledgement.
func (s *bare) do(kind, flags int, body []byte) []byte {
	m := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
	m = binary.NativeEndian.AppendUint16(m, uint16(kind))
	m = binary.NativeEndian.AppendUint16(m, uint16(flags|unix.NLM_F_REQUEST|unix.NLM_F_ACK))
	m = append(append(m, make([]byte, 8)...), body...)
	require.NoError(s.t, unix.Sendto(s.fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	var answer []byte
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		require.NoError(s.t, err)
		for b := s.buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(binary.NativeEndian.Uint32(b))
			switch binary.NativeEndian.Uint16(b[4:]) {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				require.Zero(s.t, binary.NativeEndian.Uint32(b[unix.NLMSG_HDRLEN:]))
				return answer
			}
			answer = append(answer, b[unix.NLMSG_HDRLEN:size]...)
			b = b[min((size+3)&^3, len(b)):]
		}
	}
}

func attribute(kind int, value []byte) []byte {
	b := binary.NativeEndian.AppendUint16(nil, uint16(4+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, uint16(kind)), value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

func number(v int) []byte { return binary.NativeEndian.AppendUint32(nil, uint32(v)) }

func linkMessage(index int, flags uint32, attributes ...[]byte) []byte {
	b := make([]byte, 16)
	binary.NativeEndian.PutUint32(b[4:], uint32(index))
	binary.NativeEndian.PutUint32(b[8:], flags)
	binary.NativeEndian.PutUint32(b[12:], flags)
	return append(b, slices.Concat(attributes...)...)
}

const skipStats = 8 // RTEXT_FILTER_SKIP_STATS of linux/rtnetlink.h

// find looks a link up and returns its index and its peer's.
func (s *bare) find(name string) (index, peer int) {
	answer := s.do(unix.RTM_GETLINK, 0, linkMessage(0, 0, attribute(unix.IFLA_IFNAME, []byte(name+"\x00")), attribute(unix.IFLA_EXT_MASK, number(skipStats))))
	index = int(binary.NativeEndian.Uint32(answer[4:]))
	for b := answer[16:]; len(b) >= 4; {
		size := int(binary.NativeEndian.Uint16(b))
		if binary.NativeEndian.Uint16(b[2:]) == unix.IFLA_LINK {
			peer = int(binary.NativeEndian.Uint32(b[4:]))
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	return index, peer
}

// attachBare sends the requests of Client.Attach, and nothing else: no sysctls, no checks, no way back.
func attachBare(node *bare, podNS *netns.NS, p veth.Pair) {
	pod := newBare(node.t, podNS)
	bridge, _ := node.find(p.Host.Bridge)
	const vethInfoPeer = 1
	peer := linkMessage(0, 0, attribute(unix.IFLA_IFNAME, []byte(p.Pod.Name+"\x00")), attribute(unix.IFLA_MTU, number(1500)), attribute(unix.IFLA_NET_NS_FD, number(podNS.Fd())))
	node.do(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, linkMessage(0, 0,
		attribute(unix.IFLA_IFNAME, []byte(p.Host.Name+"\x00")), attribute(unix.IFLA_MTU, number(1500)), attribute(unix.IFLA_MASTER, number(bridge)),
		attribute(unix.IFLA_LINKINFO, slices.Concat(attribute(unix.IFLA_INFO_KIND, []byte("veth")), attribute(unix.IFLA_INFO_DATA, attribute(vethInfoPeer, peer))))))
	index, inside := node.find(p.Host.Name)
	node.do(unix.RTM_NEWLINK, 0, linkMessage(index, unix.IFF_UP, attribute(unix.IFLA_IFALIAS, []byte("bare"))))
	pod.do(unix.RTM_NEWLINK, 0, linkMessage(inside, unix.IFF_UP, attribute(unix.IFLA_IFALIAS, []byte("bare"))))
	for _, a := range p.Pod.Addresses {
		family := byte(unix.AF_INET)
		if a.Addr().Is6() {
			family = unix.AF_INET6
		}
		body := append([]byte{family, byte(a.Bits()), 0, 0}, number(inside)...)
		pod.do(unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(append(body, attribute(unix.IFA_LOCAL, a.Addr().AsSlice())...), attribute(unix.IFA_ADDRESS, a.Addr().AsSlice())...))
	}
	for _, r := range p.Pod.Routes {
		family := byte(unix.AF_INET)
		if r.Via.Is6() {
			family = unix.AF_INET6
		}
		body := append([]byte{family, 0, 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_BOOT, unix.RT_SCOPE_UNIVERSE, unix.RTN_UNICAST}, number(0)...)
		pod.do(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, append(append(body, attribute(unix.RTA_GATEWAY, r.Via.AsSlice())...), attribute(unix.RTA_OIF, number(inside))...))
	}
	node.find(p.Host.Name) // carries packets?
	pod.do(unix.RTM_GETADDR, unix.NLM_F_DUMP, append([]byte{unix.AF_UNSPEC, 0, 0, 0}, number(inside)...))
	pod.close()
}

// quiet is the time that the fastest tenth stays below: what it takes when nothing else runs on the machine.
func quiet(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/10]
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

// BenchmarkAttach compares the attachment of one pod (pair, bridge port, an address and a default route of each family, sysctls, owner,
// wait until packets pass) with the bare requests alone. "medians" is the same ratio on a machine as busy as this one is.
func BenchmarkAttach(b *testing.B) {
	n := newNode(b, veth.Config{})
	n.sync(veth.State{Bridges: []veth.Bridge{bridge()}})
	node := newBare(b, n.ns)
	pod := nstest.New(b)
	p := bridged(1, pod)
	floor := func() time.Duration {
		start := time.Now()
		attachBare(node, pod, p)
		took := time.Since(start)
		i, _ := node.find(p.Host.Name)
		node.do(unix.RTM_DELLINK, 0, linkMessage(i, 0))
		return took
	}
	attach := func() time.Duration {
		start := time.Now()
		err := n.client.Attach(n.ctx, p)
		took := time.Since(start)
		require.NoError(b, err)
		require.NoError(b, n.client.Detach(n.ctx, p.Host.Name))
		return took
	}
	var floors, attaches []time.Duration
	for b.Loop() {
		floors = append(floors, floor())
		attaches = append(attaches, attach())
	}
	report(b, "attach", quiet(attaches), "floor", quiet(floors))
	b.ReportMetric(float64(median(attaches))/float64(median(floors)), "medians")
}

// BenchmarkDetach compares the removal of 100 pods: one by one, by name together, and by group.
func BenchmarkDetach(b *testing.B) {
	const pods, group = 100, 4242
	n := newNode(b, veth.Config{})
	n.sync(veth.State{Bridges: []veth.Bridge{bridge()}})
	names := make([]string, pods)
	attach := func() {
		for i := range pods {
			p := bridged(i, nstest.New(b))
			p.Group, names[i] = group, p.Host.Name
			require.NoError(b, n.client.Attach(n.ctx, p))
		}
	}
	measure := func(f func()) time.Duration {
		attach()
		start := time.Now()
		f()
		took := time.Since(start)
		left, err := n.client.Read(n.ctx)
		require.NoError(b, err)
		require.Empty(b, left.Pairs)
		return took
	}
	var single, named, grouped []time.Duration
	for b.Loop() {
		single = append(single, measure(func() {
			for _, name := range names {
				require.NoError(b, n.client.Detach(n.ctx, name))
			}
		}))
		named = append(named, measure(func() { require.NoError(b, n.client.Detach(n.ctx, names...)) }))
		grouped = append(grouped, measure(func() { require.NoError(b, n.client.DetachGroup(n.ctx, group)) }))
	}
	report(b, "group", median(grouped), "single", median(single))
	b.ReportMetric(float64(median(named))/float64(median(single)), "names/single")
}

// BenchmarkSync compares a Sync that finds nothing to do, in a node with 50 pods, with the attachment of one of them.
func BenchmarkSync(b *testing.B) {
	n := newNode(b, veth.Config{})
	want := veth.State{Bridges: []veth.Bridge{bridge()}}
	for i := range 50 {
		want.Pairs = append(want.Pairs, bridged(i, nstest.New(b)))
	}
	start := time.Now()
	_, err := n.client.Sync(n.ctx, want)
	first := time.Since(start)
	require.NoError(b, err)
	var again []time.Duration
	for b.Loop() {
		start := time.Now()
		p, err := n.client.Sync(n.ctx, want)
		again = append(again, time.Since(start))
		require.NoError(b, err)
		require.True(b, p.Empty())
	}
	report(b, "second", median(again), "first", first)
	require.NoError(b, func() error { _, err := n.client.Sync(context.Background(), veth.State{}); return err }())
}

// report gives both times and their ratio; only the ratio is worth comparing between machines.
func report(b *testing.B, what string, took time.Duration, base string, floor time.Duration) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(took.Microseconds()), what+"-us")
	b.ReportMetric(float64(floor.Microseconds()), base+"-us")
	b.ReportMetric(float64(took)/float64(floor), fmt.Sprintf("%s/%s", what, base))
}
