package nat_test

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// What others change of a capture is put back.
func TestCaptureRepaired(t *testing.T) {
	needs(t)
	m := newMesh(t)
	m.proxy(t)
	repaired := make(chan nat.Plan, 16)
	c := client(t, m.pod.NS, shared, func(c *nat.Config) {
		c.Repaired = func(p nat.Plan, err error) {
			if err == nil {
				repaired <- p
			}
		}
	})
	want := nat.State{Capture: wantCapture(), Redirects: []nat.Redirect{{Port: 7000, Proto: nat.TCP, To: 7001}}}
	want.Capture.Except.Outbound = []nat.Ports{{First: 65000, Last: 65535}}
	sync(t, c, want)
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx) }()
	time.Sleep(50 * time.Millisecond)
	const table = " inet podplumb-nat "
	for _, script := range []string{
		"delete element" + table + "captured-ports { ipv4 . 8080 }",
		"add element" + table + "captured-ports { ipv6 . 8081 }",
		"flush set" + table + "captured-outbound",
		"flush map" + table + "capture-outbound",
		"flush set" + table + "proxy-ports",
		"flush set" + table + "spared-marks",
		"add element" + table + "spared-users { 0 }",
		"add element" + table + "captured-strictly { udp }",
		"flush set" + table + "spared-outbound",
		"flush set" + table + "redirected",
		"flush map" + table + "redirects",
		"flush chain" + table + "capture-out",
		"insert rule" + table + "guard-out return",
		"flush ruleset",
	} {
		nstest.Run(t, m.pod.NS, "nft", script)
		select {
		case p := <-repaired:
			require.False(t, p.Empty(), script)
		case <-time.After(30 * time.Second):
			t.Fatal("not repaired: " + script)
		}
		require.True(t, plan(t, c, want).Empty(), script)
		for _, v6 := range families {
			out := netip.AddrPortFrom(m.peer.Addr(v6), 8080)
			require.Equal(t, out.String(), nstest.Reaches(t, m.pod.NS, "tcp", out).Server, script)
		}
	}
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// Ports that come and go by Update, from a Client that knows the table and
// from others that do not, come to the same as a Sync.
func TestCaptureUpdates(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	want := nat.State{Capture: wantCapture()}
	clients := []*nat.Client{client(t, ns, shared), client(t, ns, shared), client(t, ns, shared)}
	sync(t, clients[0], want)
	r := rand.New(rand.NewPCG(4, 4))
	for n := range 60 {
		var change nat.Change
		for port := uint16(1); port < 12; port++ {
			switch r.IntN(4) {
			case 0:
				change.Capture = append(change.Capture, port)
			case 1:
				change.Release = append(change.Release, port)
			}
		}
		gone := func(p uint16) bool { return slices.Contains(change.Release, p) }
		want.Capture.Ports = append(slices.DeleteFunc(slices.Clone(want.Capture.Ports), gone), change.Capture...)
		known := func(p uint16) bool { return gone(p) || slices.Contains(change.Capture, p) }
		want.Capture.Ports4, want.Capture.Ports6 = slices.DeleteFunc(want.Capture.Ports4, known), slices.DeleteFunc(want.Capture.Ports6, known)
		c := clients[r.IntN(len(clients))]
		if r.IntN(3) == 0 {
			c = client(t, ns, shared)
		}
		_, err := c.Update(within(t), change)
		require.NoError(t, err)
		if r.IntN(8) == 0 {
			// Another capture meanwhile, with marks that are rules, and ports of one family.
			want.Capture.Ports4, want.Capture.Ports6 = []uint16{uint16(1 + r.IntN(11))}, []uint16{uint16(1 + r.IntN(11)), 12}
			want.Capture = want.Canonical().Capture
			want.Capture.Except.Marks = []nat.Mark{{Value: uint32(n), Mask: 0xff}, {Value: proxyMark}}
			_, err := clients[0].Sync(within(t), want)
			require.NoError(t, err)
		}
		for _, c := range clients {
			p := plan(t, c, want)
			require.True(t, p.Empty(), "%d: %s", n, p)
		}
	}
}
