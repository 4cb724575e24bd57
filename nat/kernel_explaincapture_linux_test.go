package nat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// What Explain says of captures and redirects in random States is what the
// kernel does.
func TestExplainCaptureKernel(t *testing.T) {
	needs(t)
	m := newMesh(t)
	second := m.secondAddresses(t)
	for _, port := range []int{15001, 15006, 15053} {
		serveOriginal(t, m.pod.NS, fmt.Sprintf(":%d", port))
		nstest.ServeUDP(t, m.pod.NS, fmt.Sprintf(":%d", port), "dns")
	}
	for _, port := range []int{80, 8000, 8001} {
		nstest.ServeTCP(t, m.pod.NS, fmt.Sprintf(":%d", port), "pod")
		nstest.ServeUDP(t, m.pod.NS, fmt.Sprintf(":%d", port), "pod")
	}
	for _, port := range []int{80, 81, 53, 7000} {
		nstest.ServeTCP(t, m.peer.NS, fmt.Sprintf(":%d", port), "peer")
		nstest.ServeUDP(t, m.peer.NS, fmt.Sprintf(":%d", port), "peer")
	}
	ports := []uint16{53, 80, 80, 81, 81, 82, 7000, 7001, 15001, 15006, 15053}
	users := canBecome(t, m.pod.NS)
	c := client(t, m.pod.NS)
	checked := map[nat.Outcome]int{}
	r := rand.New(rand.NewPCG(8, 8))
	for range 40 {
		s := meshState(r, m, second)
		_, err := c.Sync(within(t), s)
		require.NoError(t, err)
		for range 20 {
			v6, network := r.IntN(2) == 0, []string{"tcp", "tcp", "udp"}[r.IntN(3)]
			own := map[bool][]netip.Addr{true: {m.pod.Addr(v6), second[0][v6], loopbackAddr(v6)}, false: {m.peer.Addr(v6), second[1][v6]}}
			p := nat.Packet{FromHost: r.IntN(3) > 0, ToHost: r.IntN(2) == 0, Proto: protos[network]}
			if !p.FromHost {
				p.ToHost = true
			}
			p.Dst = netip.AddrPortFrom(own[p.ToHost][r.IntN(2)], ports[r.IntN(len(ports))])
			from := sender{ns: m.peer.NS, from: own[p.FromHost][r.IntN(2)]}
			if p.FromHost {
				from.ns = m.pod.NS
				if p.ToHost && r.IntN(2) == 0 {
					p.Dst, from.from = netip.AddrPortFrom(own[true][2], p.Dst.Port()), own[true][2]
				}
				from.mark = r.IntN(6)
				if users {
					from.user, from.group = r.IntN(6), 1000+r.IntN(6)
				}
				p.Mark, p.User, p.Group = uint32(from.mark), uint32(from.user), uint32(from.group)
			}
			p.Src = netip.AddrPortFrom(from.from, 40000)
			say := nat.Explain(s, p)
			checked[say.Outcome]++
			a, err := from.ask(network, p.Dst)
			why := fmt.Sprintf("%s %+v\n%s%s", network, p, say, nat.Diff(nat.State{}, s))
			switch say.Outcome {
			case nat.Captured, nat.Redirected:
				hop := say.Hops[0].To
				if err != nil && say.Outcome == nat.Redirected && hop.Port() != 8000 && hop.Port() != 8001 {
					continue
				}
				require.NoError(t, err, why)
				require.Equal(t, hop.Port(), a.Local.Port(), why)
				require.Equal(t, p.Src.Addr(), a.Client.Addr(), why)
				if !hop.Addr().IsUnspecified() {
					require.Equal(t, hop.Addr(), a.Local.Addr(), why)
				}
				if say.Outcome == nat.Captured && network == "tcp" {
					require.Equal(t, p.Dst.String(), a.Server, why)
				}
			case nat.Rejected:
				require.Error(t, err, why)
				require.True(t, isRefused(err), "%s\n%v", why, err)
			default:
				if err != nil { // nothing listens there
					require.True(t, isRefused(err), "%s\n%v", why, err)
					require.NotContains(t, []uint16{80, map[bool]uint16{false: 53, true: 80}[p.ToHost]}, p.Dst.Port(), why)
					continue
				}
				label := map[bool]string{true: "pod", false: "peer"}[p.ToHost]
				if p.Dst.Port() > 15000 { // the State has no proxy there
					label = map[string]string{"tcp": "direct", "udp": "dns"}[network]
				}
				require.Equal(t, label, a.Server, why)
				require.Equal(t, p.Dst, a.Local, why)
				require.Equal(t, p.Src.Addr(), a.Client.Addr(), why)
			}
		}
	}
	t.Log(checked)
	for _, o := range []nat.Outcome{nat.Untouched, nat.Captured, nat.Redirected, nat.Rejected} {
		require.Positive(t, checked[o], o.String())
	}
}

// meshState has exceptions for the addresses of the mesh.
func meshState(r *rand.Rand, m mesh, second [2]map[bool]netip.Addr) nat.State {
	s := nat.State{Redirects: randomRedirects(r), Capture: randomCapture(r)}
	s.Capture.Except.From, s.Capture.Except.To = nil, nil
	for _, v6 := range families {
		for _, list := range []*[]netip.Prefix{&s.Capture.Except.From, &s.Capture.Except.To} {
			for n := range second {
				if r.IntN(5) == 0 {
					a := second[n][v6]
					*list = append(*list, netip.PrefixFrom(a, a.BitLen()))
				}
			}
		}
	}
	x := &s.Capture.Except
	for _, thin := range []func(){
		func() { x.Users = nil }, func() { x.Groups = nil }, func() { x.Marks = x.Marks[:1] }, func() { x.Inbound = nil }, func() { x.Outbound = nil },
		func() { x.From = nil }, func() { x.To = nil },
	} {
		if r.IntN(3) > 0 {
			thin()
		}
	}
	if r.IntN(3) == 0 {
		s.Capture.Except.Marks = append(s.Capture.Except.Marks[:1:1], nat.Mark{Value: 2, Mask: 2})
	}
	return s
}
