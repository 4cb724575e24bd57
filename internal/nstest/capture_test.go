package nstest_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
)

func TestCapture(t *testing.T) {
	nstest.Leaks(t)
	a, b := nstest.Pair(t)
	onB, onAll := nstest.StartCapture(t, b.NS, b.Link), nstest.StartCapture(t, a.NS, "")
	for i, server := range b.Addrs() {
		client := a.Addrs()[i]
		for network, protocol := range map[string]uint8{"tcp": 6, "udp": 17} {
			var port uint16
			if network == "tcp" {
				port = nstest.ServeTCP(t, b.NS, ":0", "b").Port()
			} else {
				port = nstest.ServeUDP(t, b.NS, ":0", "b").Port()
			}
			nstest.Reaches(t, a.NS, network, netip.AddrPortFrom(server, port))
			question := func(p nstest.Packet) bool {
				return p.Protocol == protocol && p.Dst == netip.AddrPortFrom(server, port) && string(p.Payload) == "who\n"
			}
			answer := func(p nstest.Packet) bool {
				return p.Protocol == protocol && p.Src == netip.AddrPortFrom(server, port) && len(p.Payload) > 0
			}
			q := onB.Wait(t, "question", question)
			require.Equal(t, client, q.Src.Addr())
			require.False(t, q.Outgoing)
			require.True(t, onB.Wait(t, "answer", answer).Outgoing)
			require.True(t, onAll.Wait(t, "question", question).Outgoing)
			require.Equal(t, q.DstMAC, onAll.Wait(t, "answer", answer).SrcMAC)
			require.Empty(t, onB.Packets(func(p nstest.Packet) bool { return p.VLAN != 0 }))
		}
	}
	arp := onB.Wait(t, "ARP", func(p nstest.Packet) bool { return p.Type == nstest.TypeARP && p.Src.Addr() == a.V4.Addr() })
	require.Equal(t, b.V4.Addr(), arp.Dst.Addr())
	syn := func(p nstest.Packet) bool { return p.Protocol == 6 && p.Flags&0x02 != 0 }
	require.Len(t, onB.Packets(syn), 4, "SYN and SYN-ACK of both families")
}
