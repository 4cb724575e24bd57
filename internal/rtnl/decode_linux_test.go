package rtnl

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// FuzzDecode feeds every decoder of kernel messages with arbitrary bytes: none may panic, whatever the kernel of tomorrow sends.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, 64))
	seed := addrRequest(unix.RTM_NEWADDR, 0, &Addr{Index: 3, Prefix: netip.MustParsePrefix("192.0.2.1/24"), Label: "eth0", Flags: 1})
	f.Add(seed.Serialize()[unix.SizeofNlMsghdr:])
	seed = routeRequest(unix.RTM_NEWROUTE, 0, &Route{Dst: netip.MustParsePrefix("2001:db8::/32"), Gateway: netip.MustParseAddr("fe80::1"), MTU: 1280, Table: 300})
	f.Add(seed.Serialize()[unix.SizeofNlMsghdr:])
	seed = neighRequest(unix.RTM_NEWNEIGH, 0, &Neigh{Family: unix.AF_BRIDGE, Index: 9, MAC: MAC{2}, IP: netip.MustParseAddr("192.0.2.9"), Port: 4789, VNI: 7})
	f.Add(seed.Serialize()[unix.SizeofNlMsghdr:])
	f.Fuzz(func(t *testing.T, b []byte) {
		parseLink(b)
		parseAddr(b)
		parseRoute(b)
		parseNeigh(b)
		parseBridge(b)
		parsePort(b)
		parseVXLAN(b)
		for _, kind := range []uint16{unix.RTM_NEWLINK, unix.RTM_DELADDR, unix.RTM_NEWROUTE, unix.RTM_DELNEIGH} {
			parseEvent(kind, b)
		}
		h := unix.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: unix.NLM_F_ACK_TLVS}
		_ = parseError(&h, b)
		h.Flags |= unix.NLM_F_CAPPED
		_ = parseError(&h, b)
	})
}

// What a request says, its decoder reads back.
func TestRequestsDecode(t *testing.T) {
	t.Parallel()
	body := func(r request) []byte { return r.Serialize()[unix.SizeofNlMsghdr:] }

	for _, a := range []Addr{
		{Index: 3, Prefix: netip.MustParsePrefix("192.0.2.1/24"), Flags: unix.IFA_F_NODAD, Label: "eth0:1", Proto: 7},
		{Index: 4, Prefix: netip.MustParsePrefix("2001:db8::1/64"), Flags: unix.IFA_F_NODAD | unix.IFA_F_NOPREFIXROUTE, Scope: unix.RT_SCOPE_LINK},
		{Index: 5, Prefix: netip.MustParsePrefix("192.0.2.1/32"), Peer: netip.MustParseAddr("192.0.2.2")},
	} {
		got, ok := parseAddr(body(addrRequest(unix.RTM_NEWADDR, 0, &a)))
		require.True(t, ok)
		require.Equal(t, a, got)
	}
	for _, r := range []Route{
		{Dst: netip.MustParsePrefix("0.0.0.0/0"), Gateway: netip.MustParseAddr("192.0.2.1"), Index: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNICAST, Proto: 200, Metric: 9},
		{Dst: netip.MustParsePrefix("192.0.2.0/24"), Gateway: netip.MustParseAddr("2001:db8::1"), Index: 2, Table: 70000, Type: unix.RTN_UNICAST, MTU: 1300},
		{Dst: netip.MustParsePrefix("2001:db8::/32"), Src: netip.MustParseAddr("2001:db8::5"), Index: 2, Table: unix.RT_TABLE_MAIN, Type: unix.RTN_UNREACHABLE},
	} {
		got, ok := parseRoute(body(routeRequest(unix.RTM_NEWROUTE, 0, &r)))
		require.True(t, ok)
		require.Equal(t, r, got)
	}
	n := Neigh{Family: unix.AF_BRIDGE, Index: 7, IP: netip.MustParseAddr("2001:db8::9"), MAC: MAC{2, 3}, State: unix.NUD_PERMANENT, Flags: unix.NTF_SELF, Port: 8472, VNI: 9, Via: 4, VLAN: 12}
	got, ok := parseNeigh(body(neighRequest(unix.RTM_NEWNEIGH, 0, &n)))
	require.True(t, ok)
	require.Equal(t, n, got)
}

func TestBroadcast(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"192.0.2.1/24": "192.0.2.255", "10.1.2.3/8": "10.255.255.255", "192.0.2.1/30": "192.0.2.3",
		"192.0.2.1/31": "invalid IP", "192.0.2.1/32": "invalid IP", "2001:db8::1/64": "invalid IP",
	} {
		require.Equal(t, want, broadcast(netip.MustParsePrefix(prefix)).String(), prefix)
	}
}

func TestErrorAttributes(t *testing.T) {
	t.Parallel()
	// A capped acknowledgement: errno, the request's header, then the message attribute.
	b := binary.NativeEndian.AppendUint32(nil, 0xffffffff-uint32(unix.ENODEV)+1)
	b = append(b, make([]byte, unix.SizeofNlMsghdr)...)
	b = append(b, text(unix.NLMSGERR_ATTR_MSG, "no such thing").Serialize()...)
	err := parseError(&unix.NlMsghdr{Type: unix.NLMSG_ERROR, Flags: unix.NLM_F_ACK_TLVS | unix.NLM_F_CAPPED}, b)
	require.EqualError(t, err, "no such thing: no such device")
	require.NoError(t, parseError(&unix.NlMsghdr{Type: unix.NLMSG_ERROR}, make([]byte, 20)))
}
