//go:build linux

package ipvs_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// another gives the client one more address, whose last byte it takes.
func (l *lab) another(t *testing.T, v6 bool, last byte) netip.Addr {
	t.Helper()
	prefix := "192.168.50.%d/24"
	if v6 {
		prefix = "fd50::%x/64"
	}
	p := netip.MustParsePrefix(fmt.Sprintf(prefix, last))
	args := []string{"address", "add", p.String(), "dev", "underlay0"}
	if v6 {
		args = append(args, "nodad")
	}
	nstest.Run(t, l.client, "ip", args...)
	return p.Addr()
}

// say sends a message from an address and returns the label of the server that answers.
func (l *lab) say(t *testing.T, network string, from netip.Addr, to netip.AddrPort, message string) string {
	t.Helper()
	var local net.Addr = &net.TCPAddr{IP: from.AsSlice()}
	if network == "udp" {
		local = &net.UDPAddr{IP: from.AsSlice()}
	}
	c, err := (&netns.Dialer{NS: l.client, Dialer: net.Dialer{LocalAddr: local, Timeout: 10 * time.Second}}).DialContext(t.Context(), network, to.String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = c.Write([]byte(message))
	require.NoError(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	return strings.Fields(line)[0]
}

// TestPersistencePrefix: clients of one network count as one.
func TestPersistencePrefix(t *testing.T) {
	l := newLab(t, 3)
	families(t, func(t *testing.T, v6 bool) {
		near, far := l.another(t, v6, 21), l.another(t, v6, 77)
		first := l.another(t, v6, 18)
		s := l.service(v6, ipvs.TCP, ipvs.RoundRobin)
		s.Persistence = ipvs.Persistence{Timeout: time.Minute, Prefix: s.Address.Addr().BitLen() - 4} // 16 to 31, and not 77
		l.sync(t, s)
		server := l.say(t, "tcp", first, s.Address, "who\n")
		for range 3 {
			require.Equal(t, server, l.say(t, "tcp", near, s.Address, "who\n"), "of the same network")
		}
		require.NotEqual(t, server, l.say(t, "tcp", far, s.Address, "who\n"), "of another network")
		require.Equal(t, server, l.say(t, "tcp", first, s.Address, "who\n"))
		l.requireConnections(t)
		l.requirePersistent(t)
	})
}

// TestSIP: the persistence engine keeps a call with its server, whoever of one network sends its messages.
func TestSIP(t *testing.T) {
	l := newLab(t, 3)
	families(t, func(t *testing.T, v6 bool) {
		one, other := l.another(t, v6, 33), l.another(t, v6, 34)
		s := l.service(v6, ipvs.UDP, ipvs.RoundRobin)
		s.Persistence = ipvs.Persistence{Timeout: time.Minute, Prefix: s.Address.Addr().BitLen() - 4, Engine: "sip"}
		l.sync(t, s)
		call := func(from netip.Addr, id string) string {
			return l.say(t, "udp", from, s.Address, "INVITE sip:bob@example.com SIP/2.0\r\nCall-ID: "+id+"@example.com\r\nCSeq: 1 INVITE\r\n\r\n")
		}
		server := call(one, "a84b4c76e667")
		for range 3 {
			require.Equal(t, server, call(one, "a84b4c76e667"))
			require.Equal(t, server, call(other, "a84b4c76e667"), "the same call from elsewhere")
		}
		require.NotEqual(t, server, call(one, "f81d4fae7dec"), "another call of the same client")
		table, err := l.ipvs.Connections(t.Context())
		require.NoError(t, err)
		calls := map[string]bool{}
		for _, c := range table {
			if c.Engine == "sip" && c.Virtual.Addr().Is6() == v6 {
				calls[c.EngineData] = true
			}
		}
		require.Equal(t, map[string]bool{"a84b4c76e667@example.com": true, "f81d4fae7dec@example.com": true}, calls)
		l.requireConnections(t)
	})
}

// TestLowerThreshold: a server that was full takes connections again once it has fewer than its lower threshold.
func TestLowerThreshold(t *testing.T) {
	l := newLab(t, 2)
	require.NoError(t, l.ipvs.SetTimeouts(t.Context(), ipvs.Timeouts{UDP: time.Second}))
	families(t, func(t *testing.T, v6 bool) {
		s := l.service(v6, ipvs.UDP, ipvs.WeightedFailover, 9, 1)
		s.Destinations[0].Upper, s.Destinations[0].Lower = 2, 1
		l.sync(t)
		l.sync(t, s)
		for i, want := range []string{"a", "a", "b"} {
			require.Equal(t, want, nstest.Reaches(t, l.client, "udp", s.Address).Server, "flow %d", i)
		}
		require.Eventually(t, func() bool { // the flows are forgotten after a second
			return nstest.Reaches(t, l.client, "udp", s.Address).Server == "a"
		}, 20*time.Second, 500*time.Millisecond)
	})
}
