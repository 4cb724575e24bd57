package nat_test

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/nat"
)

// parseState reads one object a line:
//
//	network 10.244.0.0/24 name
//	exclude 10.0.0.0/8
//	virtual 10.96.0.0/12 drop
//	forward tcp 10.96.0.10:80 name drop all to 10.244.0.10:8080 10.244.0.11:8080*3
func parseState(t testing.TB, text string) nat.State {
	t.Helper()
	var s nat.State
	for line := range strings.Lines(text) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		switch w[0] {
		case "network":
			n := nat.Network{Prefix: netip.MustParsePrefix(w[1])}
			if len(w) > 2 {
				n.Name = w[2]
			}
			s.Networks = append(s.Networks, n)
		case "exclude":
			s.Exclude = append(s.Exclude, netip.MustParsePrefix(w[1]))
		case "virtual":
			v := nat.Virtual{Prefix: netip.MustParsePrefix(w[1])}
			if len(w) > 2 && w[2] == "drop" {
				v.Miss = nat.Drop
			}
			s.Virtual = append(s.Virtual, v)
		case "forward":
			s.Forwards = append(s.Forwards, parseForward(t, w[1:]))
		default:
			t.Fatalf("unknown line %q", line)
		}
	}
	require.NoError(t, s.Validate())
	return s
}

func parseProto(t testing.TB, s string) nat.Proto {
	t.Helper()
	for _, p := range []nat.Proto{nat.TCP, nat.UDP, nat.SCTP} {
		if p.String() == s {
			return p
		}
	}
	t.Fatalf("unknown protocol %q", s)
	return 0
}

func parseForward(t testing.TB, w []string) nat.Forward {
	t.Helper()
	at := netip.MustParseAddrPort(w[1])
	f := nat.Forward{Addr: at.Addr(), Port: at.Port(), Proto: parseProto(t, w[0])}
	for i, word := range w[2:] {
		switch word {
		case "drop":
			f.Empty = nat.Drop
		case "choosy":
			v4 := at.Addr().Is4()
			f.Allow = []netip.Prefix{netip.MustParsePrefix(map[bool]string{true: "198.51.100.0/24", false: "2001:db8::/64"}[v4])}
			f.Deny = []netip.Prefix{netip.MustParsePrefix(map[bool]string{true: "198.51.100.7/32", false: "2001:db8::7/128"}[v4])}
		case "reset":
			f.Drain = nat.DrainReset
		case "hash":
			f.Algorithm = nat.SourceHash
		case "maglev":
			f.Algorithm = nat.Maglev
		case "elsewhere":
			f.Elsewhere = true
		case "sticky":
			f.Affinity = 3 * time.Hour
		case "remote":
			f.Masquerade = nat.MasqueradeRemote
		case "all":
			f.Masquerade = nat.MasqueradeAll
		case "to":
			for _, target := range w[2+i+1:] {
				addr, weight, _ := strings.Cut(target, "*")
				ap := netip.MustParseAddrPort(addr)
				to := nat.Target{Addr: ap.Addr(), Port: ap.Port()}
				if weight != "" {
					n, err := strconv.Atoi(weight)
					require.NoError(t, err)
					to.Weight = n
				}
				f.To = append(f.To, to)
			}
			return f
		default:
			f.Name = word
		}
	}
	return f
}

// parsePacket reads "tcp SRC DST", with "host" for a destination on the host.
func parsePacket(t testing.TB, line string) nat.Packet {
	t.Helper()
	w := strings.Fields(line)
	return nat.Packet{
		Proto: parseProto(t, w[0]), Src: netip.MustParseAddrPort(w[1]), Dst: netip.MustParseAddrPort(w[2]),
		ToHost: len(w) > 3 && w[3] == "host",
	}
}
