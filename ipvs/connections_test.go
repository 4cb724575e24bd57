package ipvs_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/ipvs"
)

const connectionTable = `Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData
TCP C0A83201 D431 0A60000A 0050 0AF4000A 1F90 ESTABLISHED     899
UDP fd50:0000:0000:0000:0000:0000:0000:0001 A1B2 fd96:0000:0000:0000:0000:0000:0000:0010 0035 fd44:0000:0000:0000:0000:0000:0000:000a 0035 UDP             299
TCP C0A83201 0000 0A60000A 0050 0AF4000A 1F90 NONE             59
IP  C0A83201 0000 00000007 0000 0AF4000A 0000 NONE             59
UDP C0A83201 13C4 0A60000A 13C4 0AF4000A 13C4 UDP             299 sip 1-2@host
`

func TestConnections(t *testing.T) {
	t.Parallel()
	ap := netip.MustParseAddrPort
	got, err := ipvs.ParseConnections(strings.NewReader(connectionTable))
	require.NoError(t, err)
	require.Equal(t, []ipvs.Connection{
		{Protocol: ipvs.TCP, Client: ap("192.168.50.1:54321"), Virtual: ap("10.96.0.10:80"), Destination: ap("10.244.0.10:8080"), State: "ESTABLISHED", Expires: 899 * time.Second},
		{Protocol: ipvs.UDP, Client: ap("[fd50::1]:41394"), Virtual: ap("[fd96::10]:53"), Destination: ap("[fd44::a]:53"), State: "UDP", Expires: 299 * time.Second},
		{Protocol: ipvs.TCP, Client: ap("192.168.50.1:0"), Virtual: ap("10.96.0.10:80"), Destination: ap("10.244.0.10:8080"), State: "NONE", Expires: 59 * time.Second},
		{Client: ap("192.168.50.1:0"), Virtual: ap("0.0.0.7:0"), Destination: ap("10.244.0.10:0"), State: "NONE", Expires: 59 * time.Second},
		{Protocol: ipvs.UDP, Client: ap("192.168.50.1:5060"), Virtual: ap("10.96.0.10:5060"), Destination: ap("10.244.0.10:5060"), State: "UDP", Expires: 299 * time.Second, Engine: "sip", EngineData: "1-2@host"},
	}, got)
	for _, bad := range []string{"TCP C0A83201", "ICMP C0A83201 D431 0A60000A 0050 0AF4000A 1F90 X 899", "TCP C0A832 D431 0A60000A 0050 0AF4000A 1F90 X 899",
		"TCP C0A83201 D431 0A60000A 0050 0AF4000A 1F90 X soon", "TCP C0A83201 X 0A60000A 0050 0AF4000A 1F90 X 899", "TCP ::1.2 D431 0A60000A 0050 0AF4000A 1F90 X 899"} {
		_, err := ipvs.ParseConnections(strings.NewReader(bad))
		require.ErrorContains(t, err, "line 1 of the connection table", bad)
	}
}

func FuzzConnections(f *testing.F) {
	for line := range strings.Lines(connectionTable) {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ipvs.ParseConnections(strings.NewReader(text))
		if err != nil {
			require.Empty(t, got)
			return
		}
		for _, c := range got {
			require.True(t, c.Client.IsValid() && c.Virtual.IsValid() && c.Destination.IsValid())
		}
	})
}

func TestDaemonCodec(t *testing.T) {
	t.Parallel()
	for _, d := range []ipvs.Daemon{
		{Role: ipvs.Master, Interface: "eth0"},
		{Role: ipvs.Backup, Interface: "a-very-long-one", SyncID: 255, MaxLen: 1400, Group: netip.MustParseAddr("239.1.2.3"), Port: 0x1234, TTL: 9},
		{Role: ipvs.Backup, Interface: "eth0", Group: netip.MustParseAddr("ff02::81")},
	} {
		got, err := ipvs.DaemonRoundTrip(d)
		require.NoError(t, err)
		want := d
		if !want.Group.IsValid() {
			want.Group = netip.MustParseAddr("224.0.0.81")
		}
		if want.Port == 0 {
			want.Port, want.TTL = 8848, 1
		}
		require.Equal(t, want, got)
	}
}

func FuzzDaemon(f *testing.F) {
	f.Add([]byte{8, 0, 1, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if d, err := ipvs.DecodeDaemon(b); err == nil {
			require.Contains(t, []ipvs.Role{ipvs.Master, ipvs.Backup}, d.Role)
		}
	})
}
