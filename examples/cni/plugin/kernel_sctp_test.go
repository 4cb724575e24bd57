package plugin_test

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// Chunks of SCTP (RFC 9260, section 3.2).
const (
	chunkInit    = 1
	chunkInitAck = 2
)

// sctpPacket is a packet with an INIT or an INIT ACK chunk and its CRC32c, which conntrack checks.
func sctpPacket(from, to uint16, tag uint32, chunk byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, from)
	b = binary.BigEndian.AppendUint16(b, to)
	b = binary.BigEndian.AppendUint32(b, tag)
	b = append(b, 0, 0, 0, 0)
	b = append(b, chunk, 0, 0, 20)
	b = binary.BigEndian.AppendUint32(b, 0x01020304) // initiate tag
	b = binary.BigEndian.AppendUint32(b, 65535)      // window
	b = append(b, 0, 1, 0, 1)                        // streams
	b = binary.BigEndian.AppendUint32(b, 1)
	binary.LittleEndian.PutUint32(b[8:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	return b
}

// rawSCTP is a socket that sees the SCTP packets of an address. The kernel need not know the protocol for that.
func rawSCTP(t testing.TB, ns *netns.NS, addr string) net.PacketConn {
	t.Helper()
	network := "ip4:132"
	if netip.MustParseAddr(addr).Is6() {
		network = "ip6:132"
	}
	c, err := ns.ListenPacket(t.Context(), network, addr)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// receiveSCTP waits for a packet with the chunk, and returns its ports and who sent it.
func receiveSCTP(t testing.TB, c net.PacketConn, chunk byte) (from, to uint16, sender net.Addr) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	b := make([]byte, 200)
	for {
		n, addr, err := c.ReadFrom(b)
		require.NoError(t, err)
		if n > 12 && b[12] == chunk {
			return binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:]), addr
		}
	}
}

// TestSCTPPorts leads the first packet of an association to the pod, and the second back as if from the node.
func TestSCTPPorts(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	world := n.outside(t)
	p := n.pod(t)
	published := n.conf.with("runtimeConfig", ports(9999, 99, "sctp"))
	v4, v6 := addrs(t, n.add(t, p, published))
	for _, x := range []struct{ pod, node, outside string }{{v4, node4, outside4}, {v6, node6, outside6}} {
		server, client := rawSCTP(t, p.ns, x.pod), rawSCTP(t, world, x.outside)
		_, err := client.WriteTo(sctpPacket(4000, 9999, 0, chunkInit), &net.IPAddr{IP: net.ParseIP(x.node)})
		require.NoError(t, err)
		from, to, sender := receiveSCTP(t, server, chunkInit)
		require.Equal(t, []any{uint16(4000), uint16(99), x.outside}, []any{from, to, sender.String()})
		_, err = server.WriteTo(sctpPacket(99, 4000, 0x01020304, chunkInitAck), sender)
		require.NoError(t, err)
		from, to, sender = receiveSCTP(t, client, chunkInitAck)
		require.Equal(t, []any{uint16(9999), uint16(4000), x.node}, []any{from, to, sender.String()})
	}
	n.refused(t, 100, "ADD", n.pod(t), published, "0.0.0.0:9999/sctp", "belongs to")
	n.ok(t, "DEL", p, published)
}
