package vxlan_test

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/vxlan"
)

// median of the durations, in nanoseconds.
func median(d []time.Duration) float64 {
	slices.Sort(d)
	return float64(d[len(d)/2])
}

// bare is a blocking rtnetlink socket that sends ready messages and waits for each answer: the least that the kernel lets anybody do.
type bare struct {
	fd  int
	buf []byte
}

func openBare(b *testing.B, ns *netns.NS) *bare {
	b.Helper()
	s := &bare{buf: make([]byte, 64<<10)}
	require.NoError(b, ns.Do(func() (err error) {
		s.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		return err
	}))
	b.Cleanup(func() { _ = unix.Close(s.fd) })
	return s
}

// send sends one message and waits for its acknowledgement.
func (s *bare) send(b *testing.B, message []byte) {
	require.NoError(b, unix.Sendto(s.fd, message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}))
	n, _, err := unix.Recvfrom(s.fd, s.buf, 0)
	require.NoError(b, err)
	require.GreaterOrEqual(b, n, 20)
	if errno := int32(binary.NativeEndian.Uint32(s.buf[16:])); errno != 0 {
		require.NoError(b, unix.Errno(-errno))
	}
}

// message encodes a request with its fixed header and attributes (kind, value, kind, value...).
func message(kind, flags uint16, header []byte, attrs ...any) []byte {
	m := append(make([]byte, 16), header...)
	for i := 0; i < len(attrs); i += 2 {
		v := attrs[i+1].([]byte)
		m = binary.NativeEndian.AppendUint16(m, uint16(4+len(v)))
		m = binary.NativeEndian.AppendUint16(m, uint16(attrs[i].(int)))
		m = append(m, v...)
		for len(m)%4 != 0 {
			m = append(m, 0)
		}
	}
	binary.NativeEndian.PutUint32(m, uint32(len(m)))
	binary.NativeEndian.PutUint16(m[4:], kind)
	binary.NativeEndian.PutUint16(m[6:], unix.NLM_F_REQUEST|unix.NLM_F_ACK|flags)
	return m
}

// messages are the requests that make a peer, without any library.
func messages(index int, p vxlan.Peer) [][]byte {
	m := vxlan.MACFromKey(p.VTEP.String())
	ndmsg := func(family, flags byte) []byte {
		b := make([]byte, 12)
		b[0], b[10] = family, flags
		binary.NativeEndian.PutUint32(b[4:], uint32(index))
		binary.NativeEndian.PutUint16(b[8:], unix.NUD_PERMANENT)
		return b
	}
	family := func(a netip.Addr) byte {
		if a.Is4() {
			return unix.AF_INET
		}
		return unix.AF_INET6
	}
	out := [][]byte{message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, ndmsg(unix.AF_BRIDGE, unix.NTF_SELF), unix.NDA_DST, p.VTEP.AsSlice(), unix.NDA_LLADDR, m[:])}
	for _, t := range p.Tunnel {
		out = append(out, message(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, ndmsg(family(t), 0), unix.NDA_DST, t.AsSlice(), unix.NDA_LLADDR, m[:]))
	}
	for i, s := range p.Subnets {
		b := []byte{family(s.Addr()), byte(s.Bits()), 0, 0, unix.RT_TABLE_MAIN, 113, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
		binary.NativeEndian.PutUint32(b[8:], unix.RTNH_F_ONLINK)
		out = append(out, message(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, b, unix.RTA_DST, s.Addr().AsSlice(), unix.RTA_GATEWAY, p.Tunnel[i].AsSlice(), unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, uint32(index))))
	}
	return out
}

// overlayDevice is a fresh namespace with a device that has no peers yet, made by the client.
func overlayDevice(b *testing.B) (ns *netns.NS, c *vxlan.Client, d vxlan.Device, index int) {
	b.Helper()
	ctx := kernel(b)
	ns = nstest.New(b)
	c = open(b, ns)
	d = vxlan.Device{Name: device, VNI: 42, Source: netip.MustParseAddr("127.0.0.1")}
	sync(b, ctx, c, vxlan.State{Devices: []vxlan.Device{d}})
	require.NoError(b, ns.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err == nil {
			index = i.Index
		}
		return err
	}))
	return ns, c, d, index
}

// BenchmarkSyncNew syncs 1,000 new peers, and sends the same requests bare.
func BenchmarkSyncNew(b *testing.B) {
	ctx := kernel(b)
	var ours, floor []time.Duration
	for b.Loop() {
		nsA, c, d, _ := overlayDevice(b)
		nsB, _, _, index := overlayDevice(b)
		d.Peers = peers(1, 1001)
		s := openBare(b, nsB)
		var all [][]byte
		for _, p := range d.Peers {
			all = append(all, messages(index, p)...)
		}
		start := time.Now()
		for _, m := range all {
			s.send(b, m)
		}
		floor = append(floor, time.Since(start))
		start = time.Now()
		_, err := c.Sync(ctx, vxlan.State{Devices: []vxlan.Device{d}})
		ours = append(ours, time.Since(start))
		require.NoError(b, err)
		require.NoError(b, nsA.Close())
		require.NoError(b, nsB.Close())
	}
	b.ReportMetric(median(ours)/median(floor), "x-bare")
	b.ReportMetric(median(ours)/1e6, "ms/sync")
}

// BenchmarkSyncAgain syncs 1,000 peers that are in place, and lets bridge and ip make them in batches.
func BenchmarkSyncAgain(b *testing.B) {
	ctx := kernel(b)
	ns, c, d, _ := overlayDevice(b)
	d.Peers = peers(1, 1001)
	var fdb, rest, rest6 strings.Builder
	for _, p := range d.Peers {
		m := vxlan.MACFromKey(p.VTEP.String())
		fmt.Fprintf(&fdb, "fdb add %s dev vx0 dst %s self permanent\n", m, p.VTEP)
		fmt.Fprintf(&rest, "neigh add %s lladdr %s dev vx0 nud permanent\nroute add %s via %s dev vx0 onlink proto 113\n", p.Tunnel[0], m, p.Subnets[0], p.Tunnel[0])
		fmt.Fprintf(&rest6, "neigh add %s lladdr %s dev vx0 nud permanent\nroute add %s via %s dev vx0 onlink proto 113\n", p.Tunnel[1], m, p.Subnets[1], p.Tunnel[1])
	}
	dir := b.TempDir()
	for name, text := range map[string]string{"fdb": fdb.String(), "rest": rest.String(), "rest6": rest6.String()} {
		require.NoError(b, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644))
	}
	want := vxlan.State{Devices: []vxlan.Device{d}}
	empty := d
	empty.Peers = nil
	var ours, tools []time.Duration
	for b.Loop() {
		sync(b, ctx, c, vxlan.State{Devices: []vxlan.Device{empty}})
		start := time.Now()
		nstest.Run(b, ns, "bridge", "-batch", filepath.Join(dir, "fdb"))
		nstest.Run(b, ns, "ip", "-batch", filepath.Join(dir, "rest"))
		nstest.Run(b, ns, "ip", "-6", "-batch", filepath.Join(dir, "rest6"))
		tools = append(tools, time.Since(start))
		start = time.Now()
		p, err := c.Sync(ctx, want)
		ours = append(ours, time.Since(start))
		require.NoError(b, err)
		require.True(b, p.Empty(), p.String())
	}
	b.ReportMetric(median(ours)/median(tools), "x-batch")
	b.ReportMetric(median(ours)/1e6, "ms/sync")
}

// BenchmarkOnePeer changes one peer among 5,000 and one among 10, without reading anything; and by a Sync, which reads everything once.
func BenchmarkOnePeer(b *testing.B) {
	ctx := kernel(b)
	_, many, manyDevice, _ := overlayDevice(b)
	_, few, fewDevice, _ := overlayDevice(b)
	manyDevice.Peers, fewDevice.Peers = peers(1, 5001), peers(1, 11)
	sync(b, ctx, many, vxlan.State{Devices: []vxlan.Device{manyDevice}})
	sync(b, ctx, few, vxlan.State{Devices: []vxlan.Device{fewDevice}})
	changed := peer(5)
	changed.MAC = vxlan.MACFromKey("another")
	set := func(c *vxlan.Client, p vxlan.Peer) time.Duration {
		start := time.Now()
		plan, err := c.SetPeers(ctx, device, p)
		d := time.Since(start)
		require.NoError(b, err)
		require.Equal(b, 4, plan.Len())
		return d
	}
	var inMany, inFew, change, nothing []time.Duration
	for b.Loop() {
		inMany = append(inMany, set(many, changed), set(many, peer(5)))
		inFew = append(inFew, set(few, changed), set(few, peer(5)))
		if len(inMany)%8 == 2 {
			for _, p := range []vxlan.Peer{changed, peer(5)} {
				manyDevice.Peers[4] = p
				for _, to := range []*[]time.Duration{&change, &nothing} {
					start := time.Now()
					_, err := many.Sync(ctx, vxlan.State{Devices: []vxlan.Device{manyDevice}})
					*to = append(*to, time.Since(start))
					require.NoError(b, err)
				}
			}
		}
	}
	b.ReportMetric(median(inMany)/median(inFew), "x-few")
	b.ReportMetric(median(inMany)/1e3, "us/set")
	b.ReportMetric(median(change)/median(nothing), "sync-x-empty-sync")
	b.ReportMetric(median(nothing)/1e6, "ms/empty-sync")
}

// BenchmarkSyncNothing is a Sync of 1,000 peers that are in place.
func BenchmarkSyncNothing(b *testing.B) {
	ctx := kernel(b)
	_, c, d, _ := overlayDevice(b)
	d.Peers = peers(1, 1001)
	want := vxlan.State{Devices: []vxlan.Device{d}}
	sync(b, ctx, c, want)
	for b.Loop() {
		_, err := c.Sync(ctx, want)
		require.NoError(b, err)
	}
}
