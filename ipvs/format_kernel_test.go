//go:build linux

package ipvs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// TestFormat: what Format prints of every setting, also of those that this package does not make, is what ipvsadm prints.
func TestFormat(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	state := everyKind()
	state.Services = append(state.Services, simple("192.168.100.100:65535", "10.0.0.1:1", "200.0.0.1:2", "10.0.0.2:2", "10.0.0.2:1"), simple("9.0.0.1:80"),
		simple("[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535", "[2001:db8:aaaa:bbbb:cccc:dddd:eeee:1234]:65535", "[2001:db8::1]:80"))
	_, err := c.Sync(t.Context(), state)
	require.NoError(t, err)
	nstest.Run(t, ns, "ipvsadm", "-A", "-t", "10.96.7.7:80", "-s", "rr", "-b", "flag-1,flag-2")
	nstest.Run(t, ns, "ipvsadm", "-A", "-t", "10.96.7.7:81", "-s", "rr", "-p", "60", "-M", "0.0.0.0")
	info, err := c.Info(t.Context())
	require.NoError(t, err)
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	stats, err := c.Stats(t.Context())
	require.NoError(t, err)
	shown := nstest.Run(t, ns, "ipvsadm", "-Ln")
	require.Equal(t, strings.TrimSpace(shown), strings.TrimSpace(ipvs.Format(info, have, stats)))
	require.Equal(t, strings.TrimSpace(shown), strings.TrimSpace(ipvs.Format(info, have, nil)))
}

// TestMasks: a mask that is no prefix is not taken for one.
func TestMasks(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	want := simple("10.96.0.1:80")
	for mask, prefix := range map[string]int{"0.0.0.0": -1, "255.0.255.0": -1, "0.0.0.255": -1, "128.0.0.0": 1, "255.255.255.254": 31, "255.255.255.255": 0} {
		nstest.Run(t, ns, "ipvsadm", "-A", "-t", "10.96.0.1:80", "-s", "rr", "-p", "60", "-M", mask)
		have, err := c.Read(t.Context())
		require.NoError(t, err)
		require.Equal(t, prefix, have.Services[0].Persistence.Prefix, mask)
		want.Persistence = ipvs.Persistence{Timeout: time.Minute, Prefix: prefix}
		if prefix < 0 {
			_, err = c.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{want}})
			require.ErrorContains(t, err, "services[0].persistence.prefix: -1 is not between 1 and 32")
			want.Persistence.Prefix = 0
			did, err := c.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{want}})
			require.NoError(t, err)
			require.Equal(t, "~ service tcp 10.96.0.1:80: rr persistent 1m0s by a mask that is no prefix -> rr persistent 1m0s\n", did.String())
		}
		did, err := c.Sync(t.Context(), ipvs.State{Services: []ipvs.Service{want}})
		require.NoError(t, err)
		require.True(t, did.Empty())
		nstest.Run(t, ns, "ipvsadm", "-C")
	}
}
