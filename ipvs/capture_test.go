package ipvs_test

import (
	"encoding/hex"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/ipvs"
)

// captures are the attributes of messages that Linux 6.1 sent, by file name: hexadecimal, on a little-endian machine.
func captures(t testing.TB) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "linux-6.1", "*.hex"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	out := map[string][]byte{}
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
		require.NoError(t, err)
		out[strings.TrimSuffix(filepath.Base(f), ".hex")] = b
	}
	return out
}

// TestCaptures decodes what the kernel showed of services that ipvsadm had made.
func TestCaptures(t *testing.T) {
	t.Parallel()
	ap := netip.MustParseAddrPort
	services := map[string]ipvs.Service{
		"service-sip": {Key: ipvs.Key{Protocol: ipvs.UDP, Address: ap("10.96.1.1:5060")}, Scheduler: ipvs.RoundRobin,
			Persistence: ipvs.Persistence{Timeout: time.Minute, Engine: "sip"}},
		"service-one-packet": {Key: ipvs.Key{Protocol: ipvs.UDP, Address: ap("10.96.1.1:53")}, Scheduler: ipvs.RoundRobin, OnePacket: true},
		"service-hash-v6": {Key: ipvs.Key{Protocol: ipvs.UDP, Address: ap("[fd96::1]:53")}, Scheduler: ipvs.SourceHashing, HashPort: true, Fallback: true,
			Persistence: ipvs.Persistence{Timeout: time.Minute, Prefix: 64}},
		"service-persistent": {Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("10.96.1.1:80")}, Scheduler: ipvs.WeightedRoundRobin,
			Persistence: ipvs.Persistence{Timeout: 5 * time.Minute, Prefix: 24}},
		"service-mark-v6": {Key: ipvs.Key{Mark: 7, Family: ipvs.IPv6}, Scheduler: ipvs.Maglev, HashPort: true},
	}
	destinations := map[string]ipvs.Destination{
		"destination-gue": {Address: ap("10.1.0.9:53"), Method: ipvs.Tunneling, Weight: 1,
			Tunnel: ipvs.Tunnel{Type: ipvs.GUE, Port: 6080, Checksum: ipvs.Checksum}},
		"destination-limits":    {Address: ap("127.0.0.1:8081"), Weight: 5, Upper: 100, Lower: 10},
		"destination-direct-v6": {Address: ap("[fd01::5]:0"), Method: ipvs.Direct},
	}
	for name, b := range captures(t) {
		if want, ok := services[name]; ok {
			got, _, err := ipvs.DecodeService(b)
			require.NoError(t, err, name)
			require.Equal(t, want, got, name)
			delete(services, name)
		} else {
			got, _, err := ipvs.DecodeDestination(b, ipvs.IPv6)
			require.NoError(t, err, name)
			require.Equal(t, destinations[name], got, name)
			require.True(t, ipvs.UsualDestination(b), name)
			got, err = ipvs.ListDestination(b, ipvs.IPv6)
			require.NoError(t, err, name)
			require.Equal(t, destinations[name], got, name)
			delete(destinations, name)
		}
		for n := range len(b) {
			_, _, err := ipvs.DecodeService(b[:n])
			require.Error(t, err, "%s cut to %d bytes", name, n)
		}
	}
	require.Empty(t, services)
	require.Empty(t, destinations)
}
