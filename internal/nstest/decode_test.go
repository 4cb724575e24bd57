package nstest_test

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
)

func frame(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(text), ""))
	require.NoError(t, err)
	return b
}

const (
	taggedUDP = `ffffffffffff 020000000001 8100 0007 0800
		45000021 00000000 4011 0000 c0000201 c0000202
		1388 0035 000d 0000 68656c6c6f`
	tcp6 = `020000000002 020000000001 86dd
		60000000 0018 06 40 20010db8000000000000000000000001 20010db8000000000000000000000002
		c000 0050 00000001 00000000 5018 ffff 0000 0000 61626364`
	report = `333300000016 020000000001 86dd
		60000000 0010 00 01 fe800000000000000000000000000001 ff020000000000000000000000000016
		3a00 0502 0000 0100 8f00 0000 0000 0000`
)

func TestDecode(t *testing.T) {
	t.Parallel()
	p := nstest.DecodeFrame(frame(t, taggedUDP))
	require.Equal(t, uint16(7), p.VLAN)
	require.Equal(t, uint16(nstest.TypeIPv4), p.Type)
	require.Equal(t, netip.MustParseAddrPort("192.0.2.1:5000"), p.Src)
	require.Equal(t, netip.MustParseAddrPort("192.0.2.2:53"), p.Dst)
	require.Equal(t, "hello", string(p.Payload))

	p = nstest.DecodeFrame(frame(t, tcp6))
	require.Equal(t, uint8(6), p.Protocol)
	require.Equal(t, uint8(0x18), p.Flags)
	require.Equal(t, netip.MustParseAddrPort("[2001:db8::2]:80"), p.Dst)
	require.Equal(t, "abcd", string(p.Payload))
	require.Contains(t, p.String(), "[2001:db8::1]:49152 > [2001:db8::2]:80")

	p = nstest.DecodeFrame(frame(t, report))
	require.Equal(t, uint8(58), p.Protocol, "behind the hop-by-hop options")
	require.Equal(t, byte(0x8f), p.Payload[0])
}

// No frame, whole or cut, makes the decoder fail.
func FuzzDecode(f *testing.F) {
	for _, text := range []string{taggedUDP, tcp6, report, ""} {
		f.Add(frame(f, text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for n := range len(b) + 1 {
			p := nstest.DecodeFrame(b[:n])
			require.LessOrEqual(t, len(p.Payload), n)
		}
	})
}
