package netns_test

import (
	"io/fs"
	pathpkg "path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

func TestValidateName(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "blue", "cni-1234", "a.b", "with space", "-dash", "...", strings.Repeat("x", 255), "이름"} {
		require.NoError(t, netns.ValidateName(name), name)
	}
	for name, want := range map[string]string{
		"":                       "name: is empty",
		".":                      `name: "." is a directory`,
		"..":                     `name: ".." is a directory`,
		"a/b":                    `name: "a/b" holds a slash`,
		"../x":                   `name: "../x" holds a slash`,
		"a\x00b":                 `name: "a\x00b" holds a NUL byte`,
		strings.Repeat("x", 256): "name: has 256 bytes, at most 255 are allowed",
	} {
		err := netns.ValidateName(name)
		require.ErrorIs(t, err, fs.ErrInvalid, name)
		require.ErrorContains(t, err, want)
	}
	// Every fault is named at once.
	err := netns.ValidateName("/\x00" + strings.Repeat("x", 300))
	for _, want := range []string{"302 bytes", "slash", "NUL"} {
		require.ErrorContains(t, err, want)
	}
}

func TestInvalidNamesChangeNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", ".", "..", "a/b", "a\x00b"} {
		_, err := netns.Create(name)
		require.ErrorIs(t, err, fs.ErrInvalid)
		_, err = netns.OpenName(name)
		require.ErrorIs(t, err, fs.ErrInvalid)
		require.ErrorIs(t, netns.Remove(name), fs.ErrInvalid)
	}
}

func TestSysctlPath(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]string{
		"net.ipv4.ip_forward":               "net/ipv4/ip_forward",
		"net/ipv4/ip_forward":               "net/ipv4/ip_forward",
		"net.ipv4.conf.eth0.forwarding":     "net/ipv4/conf/eth0/forwarding",
		"net.ipv4.conf.eth0/100.forwarding": "net/ipv4/conf/eth0.100/forwarding",
		"net/ipv4/conf/eth0.100/forwarding": "net/ipv4/conf/eth0.100/forwarding",
		"net.netfilter.nf_conntrack_max":    "net/netfilter/nf_conntrack_max",
		"net/ipv6/conf/a.b.c/disable_ipv6":  "net/ipv6/conf/a.b.c/disable_ipv6",
		"net.ipv6.conf.a/b/c.disable_ipv6":  "net/ipv6/conf/a.b.c/disable_ipv6",
	} {
		got, err := netns.SysctlPath(key)
		require.NoError(t, err, key)
		require.Equal(t, want, got, key)
	}
	for _, key := range []string{
		"", "net", "kernel.hostname", "/net/ipv4/ip_forward", ".net.ipv4", "net..ipv4", "net/../kernel/hostname",
		"net./..x.y/..", "net.ipv4.", "net/ipv4/./ip_forward", "net.ipv4.ip_forward\x00", "net.//.kernel",
		"netx.ipv4", "net/ipv4/", "net.ipv4.conf.//.forwarding",
	} {
		got, err := netns.SysctlPath(key)
		if err == nil {
			require.NotContains(t, got+"/", "/../", key)
			require.NotContains(t, got, "//", key)
			continue
		}
		require.ErrorIs(t, err, fs.ErrInvalid, key)
	}
	for _, key := range []string{"", "net", "kernel.hostname", "/net/ipv4/ip_forward", "net..ipv4", "net/../kernel/hostname", "net.ipv4.conf.//.forwarding"} {
		_, err := netns.SysctlPath(key)
		require.ErrorIs(t, err, fs.ErrInvalid, key)
	}
}

func FuzzSysctlPath(f *testing.F) {
	for _, seed := range []string{"net.ipv4.ip_forward", "net/ipv4/conf/eth0.1/forwarding", "net.//.x", "net/../../etc/passwd"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		path, err := netns.SysctlPath(key)
		if err != nil {
			return
		}
		require.Equal(t, pathpkg.Clean(path), path, "from %q", key)
		require.True(t, strings.HasPrefix(path, "net/"), "%q gives %q", key, path)
	})
}

func TestNameOf(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/run/netns/blue":       "blue",
		"/var/run/netns/blue":   "blue",
		"/run/netns/../netns/x": "x",
		"/run/netns":            "",
		"/run/netns/a/b":        "",
		"/proc/1/ns/net":        "",
	} {
		require.Equal(t, want, netns.NameOf(path), path)
	}
}

func TestParseNameServers(t *testing.T) {
	t.Parallel()
	conf := "# nameserver 9.9.9.9\nsearch test\nnameserver 192.0.2.53\n nameserver\t2001:db8::53  # second\nnameserver\nnameserver bad\nnameserver fe80::1%eth0"
	require.Equal(t, []string{"192.0.2.53:53", "[2001:db8::53]:53", "[fe80::1%eth0]:53"}, netns.ParseNameServers(conf))
	require.Empty(t, netns.ParseNameServers(""))
}
