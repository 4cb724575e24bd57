package nat_test

import (
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// What Explain says of random packets in random States is what the kernel
// does.
func TestExplainKernel(t *testing.T) {
	needs(t)
	cluster := nstest.NewCluster(t, 1, 3)
	node, outside := cluster.Nodes[0], cluster.Underlay
	for i, p := range node.Pods {
		nstest.Run(t, node.NS, "bridge", "link", "set", "dev", []string{"pod0", "pod1", "pod2"}[i], "hairpin", "on")
		serve(t, p)
	}
	for v6, prefix := range map[bool]string{false: "10.96.0.0/16", true: "fd96::/108"} {
		nstest.Route(t, outside, netip.MustParsePrefix(prefix), node.Addr(v6))
	}
	// Refusals are not to be left out because there are many.
	require.NoError(t, node.NS.SetSysctl("net.ipv4.icmp_ratelimit", "0"))
	require.NoError(t, node.NS.SetSysctl("net.ipv6.icmp.ratelimit", "0"))
	clients := append([]nstest.End{
		{NS: outside, V4: netip.MustParsePrefix("192.168.50.1/24"), V6: netip.MustParsePrefix("fd50::1/64")},
		node.End,
	}, node.Pods...)
	c := client(t, node.NS)
	checked := map[nat.Outcome]int{}
	r := rand.New(rand.NewPCG(7, 7))
	for range 30 {
		s := worldOf(r, node)
		_, err := c.Sync(within(t), s)
		require.NoError(t, err)
		for range 16 {
			v6, from := r.IntN(2) == 0, clients[r.IntN(len(clients))]
			network := []string{"tcp", "udp"}[r.IntN(2)]
			dst := netip.AddrPortFrom(addresses(node, v6)[r.IntN(4)], uint16(80+r.IntN(3)))
			p := nat.Packet{Src: netip.AddrPortFrom(from.Addr(v6), 40000), Proto: protos[network], FromHost: from.NS == node.NS}
			if p.FromHost && r.IntN(3) == 0 {
				dst = netip.AddrPortFrom(loopbacks[v6], dst.Port())
				p.Src = netip.AddrPortFrom(loopbacks[v6], 40000)
			}
			p.Dst, p.ToHost = dst, dst.Addr() == node.Addr(v6) || dst.Addr().IsLoopback()
			say := nat.Explain(s, p)
			a, err := ask(from, network, dst)
			checked[say.Outcome]++
			why := func() string {
				return p.Dst.String() + " " + network + " from " + p.Src.String() + "\n" + say.String() + nat.Diff(nat.State{}, s).String()
			}
			switch say.Outcome {
			case nat.Forwarded:
				require.NoError(t, err, why())
				i := slices.IndexFunc(say.Hops, func(h nat.Hop) bool { return h.To == a.Local })
				require.GreaterOrEqual(t, i, 0, "%s\nanswered by %s", why(), a.Local)
				require.Equal(t, say.Hops[i].Masqueraded, a.Client.Addr() != p.Src.Addr(), "%s\nseen as %s", why(), a.Client)
			case nat.Dropped:
				require.True(t, errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, fs.ErrPermission), "%s\n%v", why(), err)
			default:
				// The host has no server on these ports: it refuses as well. A
				// datagram of its own is refused as it is sent.
				require.True(t, errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrPermission), "%s\n%v", why(), err)
			}
		}
	}
	t.Log(checked)
	for _, o := range []nat.Outcome{nat.Untouched, nat.Forwarded, nat.Rejected, nat.Dropped} {
		require.Positive(t, checked[o], o.String())
	}
}

// ask is a connection's or a datagram's fate, known within a moment.
func ask(from nstest.End, network string, to netip.AddrPort) (nstest.Answer, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	conn, err := from.NS.DialContext(ctx, network, to.String())
	if err != nil {
		return nstest.Answer{}, err
	}
	defer conn.Close()
	if network == "udp" {
		if err := conn.SetDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
			return nstest.Answer{}, err
		}
		if _, err := conn.Write([]byte("who\n")); err != nil {
			return nstest.Answer{}, err
		}
		if _, err := conn.Read(make([]byte, 256)); err != nil {
			return nstest.Answer{}, err
		}
	}
	return (&nstest.Flow{Conn: conn}).Ask()
}

// addresses are two service addresses, one of the range without a forward,
// and the node's.
func addresses(node nstest.Node, v6 bool) []netip.Addr {
	a := service[v6]
	return []netip.Addr{a, a.Next(), a.Next().Next(), node.Addr(v6)}
}

func worldOf(r *rand.Rand, node nstest.Node) nat.State {
	s := nat.State{Virtual: []nat.Virtual{
		{Prefix: ranges[0].Prefix, Miss: nat.Refusal(r.IntN(2))}, {Prefix: ranges[1].Prefix, Miss: nat.Refusal(r.IntN(2))},
	}}
	pods := map[bool]netip.Prefix{false: node.PodV4, true: node.PodV6}
	for _, v6 := range families {
		if r.IntN(2) == 0 {
			s.Networks = append(s.Networks, nat.Network{Prefix: pods[v6]})
		}
		if r.IntN(2) == 0 {
			s.Exclude = append(s.Exclude, pods[v6])
		}
		if r.IntN(4) == 0 {
			s.Local = append(s.Local, pods[v6])
		}
		keys := append(addresses(node, v6)[:2:2], node.Addr(v6), anyAddr[v6])
		if r.IntN(2) == 0 {
			s.Localhost = append(s.Localhost, pods[v6].Addr().Next())
			keys = append(keys, loopbacks[v6])
		}
		for _, addr := range keys {
			for port := range uint16(2) {
				for _, proto := range protos {
					if r.IntN(2) == 0 {
						continue
					}
					f := nat.Forward{
						Addr: addr, Port: 80 + port, Proto: proto,
						Empty: nat.Refusal(r.IntN(2)), Masquerade: nat.Masquerade(r.IntN(4)),
					}
					split := r.IntN(4) == 0
					for _, p := range node.Pods {
						to := nat.Target{Addr: p.Addr(v6), Port: 8080, Weight: 1 + r.IntN(3)}
						if r.IntN(2) == 0 {
							f.To = append(f.To, to)
						}
						if split && r.IntN(2) == 0 {
							f.Near = append(f.Near, to)
						}
					}
					if r.IntN(4) == 0 {
						f.Algorithm = nat.Algorithm(1 + r.IntN(3))
					}
					if r.IntN(4) == 0 {
						f.Allow = append(f.Allow, pods[v6])
					}
					if r.IntN(4) == 0 {
						f.Deny = append(f.Deny, netip.PrefixFrom(node.Pods[0].Addr(v6), node.Pods[0].Addr(v6).BitLen()))
					}
					if r.IntN(4) == 0 {
						f.Affinity = time.Hour
					}
					s.Forwards = append(s.Forwards, f)
				}
			}
		}
	}
	return s
}
