package nstest

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/podplumb/podplumb/netns"
)

// Packet is a captured frame, decoded as far as the fields go; what a frame lacks
// is zero.
type Packet struct {
	Outgoing bool             // sent by the namespace, not received
	SrcMAC   net.HardwareAddr // of the Ethernet header
	DstMAC   net.HardwareAddr
	VLAN     uint16         // 802.1Q identifier, 0 for none
	Type     uint16         // EtherType, of what is behind a VLAN tag
	Protocol uint8          // IANA protocol number: 6 TCP, 17 UDP, 1 ICMP, 58 ICMPv6
	Src, Dst netip.AddrPort // ports of TCP and UDP only; of ARP the protocol addresses
	Flags    uint8          // of TCP, as on the wire
	Payload  []byte         // behind the TCP or UDP header, otherwise behind the IP or Ethernet header
	Frame    []byte         // all of it
}

// String is what a failed test prints.
func (p Packet) String() string {
	way := "in"
	if p.Outgoing {
		way = "out"
	}
	return fmt.Sprintf("%s %s>%s type %#04x proto %d %s > %s flags %#02x, %d bytes",
		way, p.SrcMAC, p.DstMAC, p.Type, p.Protocol, p.Src, p.Dst, p.Flags, len(p.Frame))
}

// Capture collects the frames that pass a link, or all links, of a namespace.
type Capture struct {
	mu      sync.Mutex
	packets []Packet
	changed chan struct{} // closed and replaced with each packet
}

// StartCapture begins to capture at once, both ways; it ends with the test. An empty
// link means all of them. Packets appear some microseconds after they passed: to see
// what was sent, use [Capture.Wait]; to see that nothing was, send something else
// afterwards and wait for that.
func StartCapture(t testing.TB, ns *netns.NS, link string) *Capture {
	t.Helper()
	c := &Capture{changed: make(chan struct{})}
	stop, err := startCapture(ns, link, c.add)
	if err != nil {
		t.Fatalf("capture on %q of %s: %v", link, ns, err)
	}
	t.Cleanup(stop)
	return c
}

func (c *Capture) add(frame []byte, outgoing bool, vlan uint16) {
	p := decodeFrame(frame)
	p.Outgoing = outgoing
	if vlan != 0 {
		p.VLAN = vlan
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.packets = append(c.packets, p)
	close(c.changed)
	c.changed = make(chan struct{})
}

// Packets returns what was captured so far and matches; nil matches everything.
func (c *Capture) Packets(match func(Packet) bool) []Packet {
	found, _ := c.look(match)
	return found
}

func (c *Capture) look(match func(Packet) bool) ([]Packet, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var found []Packet
	for _, p := range c.packets {
		if match == nil || match(p) {
			found = append(found, p)
		}
	}
	return found, c.changed
}

// Wait returns the first packet that matches, captured already or within
// [AnswerWithin], and fails the test if there is none.
func (c *Capture) Wait(t testing.TB, what string, match func(Packet) bool) Packet {
	t.Helper()
	timeout := time.NewTimer(patience(AnswerWithin))
	defer timeout.Stop()
	for {
		found, changed := c.look(match)
		if len(found) > 0 {
			return found[0]
		}
		select {
		case <-changed:
		case <-timeout.C:
			all := c.Packets(nil)
			for _, p := range all {
				t.Logf("captured: %s", p)
			}
			t.Fatalf("no %s among %d packets within %s", what, len(all), AnswerWithin)
		}
	}
}
