package netns_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// The cases follow the examples of RFC 6724, 10.2.
func TestSortDestinations(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ dst, src, want []string }{
		"prefer matching scope": {
			dst: []string{"2001:db8:1::1", "198.51.100.121"}, src: []string{"2001:db8:1::2", "169.254.13.78"},
			want: []string{"2001:db8:1::1", "198.51.100.121"},
		},
		"prefer matching scope, the other way": {
			dst: []string{"2001:db8:1::1", "198.51.100.121"}, src: []string{"fe80::1", "198.51.100.117"},
			want: []string{"198.51.100.121", "2001:db8:1::1"},
		},
		"prefer higher precedence": {
			dst: []string{"10.1.2.3", "2001:db8:1::1"}, src: []string{"10.1.2.4", "2001:db8:1::2"},
			want: []string{"2001:db8:1::1", "10.1.2.3"},
		},
		"prefer smaller scope": {
			dst: []string{"2001:db8:1::1", "fe80::1"}, src: []string{"2001:db8:1::2", "fe80::2"},
			want: []string{"fe80::1", "2001:db8:1::1"},
		},
		"prefer matching label": {
			dst: []string{"2002:c633:6401::1", "2001:db8:1::1"}, src: []string{"2002:c633:6401::2", "2002:c633:6401::2"},
			want: []string{"2002:c633:6401::1", "2001:db8:1::1"},
		},
		"avoid what cannot be reached": {
			dst: []string{"2001:db8:1::1", "10.1.2.3"}, src: []string{"", "10.1.2.4"},
			want: []string{"10.1.2.3", "2001:db8:1::1"},
		},
		"longest matching prefix": {
			dst: []string{"2001:db8:3ffe::1", "2001:db8:1::1"}, src: []string{"2001:db8:1::2", "2001:db8:1::2"},
			want: []string{"2001:db8:1::1", "2001:db8:3ffe::1"},
		},
		"unique local after IPv4": {
			dst: []string{"fd44::1", "10.0.0.1"}, src: []string{"fd44::2", "10.0.0.2"},
			want: []string{"10.0.0.1", "fd44::1"},
		},
		"otherwise the order stays": {
			dst: []string{"10.0.0.3", "10.0.0.1", "10.0.0.2"}, src: []string{"10.0.0.9", "10.0.0.9", "10.0.0.9"},
			want: []string{"10.0.0.3", "10.0.0.1", "10.0.0.2"},
		},
		"loopback first": {
			dst: []string{"127.0.0.1", "::1"}, src: []string{"127.0.0.1", "::1"},
			want: []string{"::1", "127.0.0.1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := addrs(c.dst)
			netns.SortDestinations(got, addrs(c.src))
			require.Equal(t, addrs(c.want), got)
		})
	}
}

func addrs(text []string) []netip.Addr {
	out := make([]netip.Addr, len(text))
	for i, s := range text {
		if s != "" {
			out[i] = netip.MustParseAddr(s)
		}
	}
	return out
}

func TestByFamily(t *testing.T) {
	t.Parallel()
	primaries, fallbacks := netns.ByFamily([]string{"[::1]:1", "1.2.3.4:1", "[::2]:1"})
	require.Equal(t, []string{"[::1]:1", "[::2]:1"}, primaries)
	require.Equal(t, []string{"1.2.3.4:1"}, fallbacks)
}
