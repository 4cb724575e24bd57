package nat_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/podplumb/podplumb/nat"
)

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
	}
	if r.IntN(2) == 0 {
		c.DNS = doors[2]
	}
	some := func(n int) bool { return r.IntN(n) == 0 }
	for n := range uint16(4) {
		if some(2) {
			c.Ports = append(c.Ports, 80+n, 80)
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
