package nat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/nat"
)

func TestValidateCapture(t *testing.T) {
	t.Parallel()
	prefix, addr := netip.MustParsePrefix, netip.MustParseAddr
	bad := nat.State{
		Networks: []nat.Network{
			{Prefix: prefix("10.0.0.0/8"), To: nat.Pool{Last: addr("192.0.2.1"), Ports: nat.Ports{First: 5, Last: 4}}},
			{Prefix: prefix("10.1.0.0/16")},
			{Prefix: prefix("fd00::/8"), To: nat.Pool{First: addr("192.0.2.2"), Last: addr("192.0.2.1")}},
		},
		Redirects: []nat.Redirect{
			{}, {Port: 80, Proto: nat.TCP, To: 80, Name: "\""}, {Port: 80, Proto: nat.TCP, To: 15001},
			{Port: 15006, Proto: nat.TCP, To: 1}, {Port: 443, Proto: nat.TCP, To: 8443},
		},
		Capture: nat.Capture{
			Outbound: 15001, Inbound: 15006, DNS: 15001, Ports: []uint16{0}, Ports6: []uint16{1, 0},
			Except: nat.Except{
				From: []netip.Prefix{{}}, To: []netip.Prefix{prefix("::ffff:10.0.0.0/104")},
				Inbound: []nat.Ports{{}}, Outbound: []nat.Ports{{First: 9, Last: 8}},
			},
		},
		Forwards: []nat.Forward{
			{Addr: addr("0.0.0.0"), Port: 443, Proto: nat.TCP}, {Addr: addr("::"), Port: 15006, Proto: nat.TCP},
		},
	}
	require.Equal(t, []string{
		`capture.dns: 15001 is the port of outbound as well`,
		`capture.except.from[0]: no prefix`,
		`capture.except.inbound[0].first: zero`,
		`capture.except.outbound[0].last: 8 is below 9`,
		`capture.except.to[0]: ::ffff:10.0.0.0/104 is an IPv4 address in IPv6 form`,
		`capture.except: no user, group or mark: the proxy's own connections would come back to it`,
		`capture.ports6[1]: zero`,
		`capture.ports[0]: zero`,
		`forwards[1].port: 15006 is capture.inbound, which nobody reaches directly`,
		`networks[0].to.first: no address`,
		`networks[0].to.ports.last: 4 is below 5`,
		`networks[1]: 10.1.0.0/16 lies inside networks[0] 10.0.0.0/8 and differs from it`,
		`networks[2].to.first: 192.0.2.2 is not of the family of fd00::/8`,
		`networks[2].to.last: 192.0.2.1 does not come after 192.0.2.2`,
		`redirects[0].port: zero`,
		`redirects[0].proto: unknown proto(0)`,
		`redirects[0].to: zero`,
		`redirects[1].name: "\"" has a character that is not printable ASCII, or a quote`,
		`redirects[1].to: 80 is the port itself`,
		`redirects[2].to: 15001 is capture.outbound, which nobody reaches directly`,
		`redirects[2]: 80/tcp is redirects[1] already`,
		`redirects[3].port: 15006 is capture.inbound, which nobody reaches directly`,
		`redirects[3]: 15006/tcp is the node port forwards[1] already`,
		`redirects[4]: 443/tcp is the node port forwards[0] already`,
	}, nat.Faults(bad.Validate()))
	alone := nat.State{Capture: nat.Capture{AllPorts: true, Except: nat.Except{Marks: []nat.Mark{{Value: 3, Mask: 1}}}}}
	require.Equal(t, []string{
		`capture.allPorts: no inbound port to lead them to`,
		`capture.except.marks[0]: 0x3 has bits outside of the mask 0x1`,
	}, nat.Faults(alone.Validate()))
	require.Equal(t, []string{`capture[1]: 80 is capture[0] already`, `release[0]: zero`},
		nat.Faults(nat.Change{Capture: []uint16{80, 80}, Release: []uint16{0}}.Validate()))
}

// Order, repetition and ranges that touch mean nothing.
func TestCanonicalCapture(t *testing.T) {
	t.Parallel()
	except := func(ports ...nat.Ports) nat.State {
		return nat.State{Capture: nat.Capture{Except: nat.Except{Inbound: ports, Users: []uint32{2, 1, 2}}}}
	}
	a := except(nat.Ports{First: 30, Last: 40}, nat.Ports{First: 20}, nat.Ports{First: 21, Last: 29}, nat.Ports{First: 65535})
	b := except(nat.Ports{First: 20, Last: 40}, nat.Ports{First: 65535, Last: 65535})
	require.Equal(t, b.Canonical(), a.Canonical())
	require.True(t, nat.Diff(a, b).Empty())
	require.Equal(t, "- capture except inbound port 65535\n", nat.Diff(a, except(nat.Ports{First: 20, Last: 40})).String())
	ports := func(both, four, six []uint16) nat.State {
		return nat.State{Capture: nat.Capture{Inbound: 15006, Ports: both, Ports4: four, Ports6: six}}
	}
	a, b = ports([]uint16{80}, []uint16{82, 81, 80}, []uint16{81, 83}), ports([]uint16{80, 81}, []uint16{82}, []uint16{83})
	require.Equal(t, b.Canonical(), a.Canonical())
	require.Equal(t, "- capture port 81\n+ capture port 81 of IPv6\n+ capture port 82\n- capture port 82 of IPv4\n",
		nat.Diff(a, ports([]uint16{80, 82}, nil, []uint16{81, 83})).String())
}

// randomPools returns a pool; one State has the same for all networks of a
// family, which may lie inside one another.
func randomPools(r *rand.Rand, format string) nat.Pool {
	if r.IntN(2) == 0 {
		return nat.Pool{}
	}
	addr := func(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf(format, n)) }
	p := nat.Pool{First: addr(1 + r.IntN(2)), Random: r.IntN(2) == 0, Persistent: r.IntN(2) == 0}
	if r.IntN(2) == 0 {
		p.Last = addr(3 + r.IntN(2))
	}
	if r.IntN(2) == 0 {
		p.Ports = nat.Ports{First: uint16(1000 + r.IntN(2)), Last: uint16(r.IntN(2) * 65535)}
	}
	return p
}

func randomPool(pools map[bool]nat.Pool, prefix string) nat.Pool {
	return pools[strings.Contains(prefix, ":")]
}

func randomRedirects(r *rand.Rand) []nat.Redirect {
	var list []nat.Redirect
	for _, proto := range []nat.Proto{nat.TCP, nat.UDP, nat.SCTP} {
		for port := range 3 {
			if r.IntN(3) == 0 {
				list = append(list, nat.Redirect{
					Port: uint16(7000 + port), Proto: proto, To: uint16(8000 + r.IntN(2)), Own: r.IntN(2) == 0, Name: []string{"", "a"}[r.IntN(2)],
				})
			}
		}
	}
	r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}

// randomCapture may swap the proxy's ports, and its ranges of ports touch.
func randomCapture(r *rand.Rand) nat.Capture {
	doors := []uint16{15001, 15006, 15053}
	r.Shuffle(3, func(i, j int) { doors[i], doors[j] = doors[j], doors[i] })
	c := nat.Capture{Strict: r.IntN(2) == 0, Except: nat.Except{Marks: []nat.Mark{{Value: 1337}}}}
	if r.IntN(2) == 0 {
		c.Outbound = doors[0]
	}
	if r.IntN(2) == 0 {
		c.Inbound, c.AllPorts = doors[1], r.IntN(2) == 0
		c.Closed = !c.AllPorts && r.IntN(2) == 0
	}
	if r.IntN(2) == 0 {
		c.DNS = doors[2]
	}
	some := func(n int) bool { return r.IntN(n) == 0 }
	for n := range uint16(4) {
		if some(2) {
			c.Ports = append(c.Ports, 80+n, 80)
		}
		if some(4) {
			c.Ports4, c.Ports6 = append(c.Ports4, 79+n), append(c.Ports6, 83-n)
		}
		if some(3) {
			c.Except.Users = append(c.Except.Users, uint32(n))
			c.Except.Groups = append(c.Except.Groups, 1000+uint32(n))
			c.Except.Marks = append(c.Except.Marks, nat.Mark{Value: uint32(n), Mask: 0xff})
		}
		if some(3) {
			c.Except.Inbound = append(c.Except.Inbound, nat.Ports{First: 20 + n, Last: 21 + n})
			c.Except.Outbound = append(c.Except.Outbound, nat.Ports{First: 65532 + n}, nat.Ports{First: 1})
		}
	}
	for _, p := range []string{"192.0.2.0/24", "192.0.2.0/25", "192.0.3.0/24", "0.0.0.0/0", "2001:db8::/64", "2001:db8::1/128", "ffff::/16"} {
		if some(4) {
			c.Except.From = append(c.Except.From, netip.MustParsePrefix(p))
		}
		if some(4) {
			c.Except.To = append(c.Except.To, netip.MustParsePrefix(p))
		}
	}
	return c
}
