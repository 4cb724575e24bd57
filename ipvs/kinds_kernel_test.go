//go:build linux

package ipvs_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
)

// everyKind is a state that has every setting once; the schedulers come from the caller.
func everyKind() ipvs.State {
	ap, dst := netip.MustParseAddrPort, func(a string, weight uint32) ipvs.Destination {
		return ipvs.Destination{Address: netip.MustParseAddrPort(a), Weight: weight}
	}
	tunnel := func(d ipvs.Destination, tun ipvs.Tunnel) ipvs.Destination {
		d.Method, d.Tunnel = ipvs.Tunneling, tun
		return d
	}
	method := func(d ipvs.Destination, m ipvs.Method) ipvs.Destination {
		d.Method = m
		return d
	}
	limited := dst("10.1.0.1:81", 1<<31-1)
	limited.Upper, limited.Lower = 1000, 10
	s := ipvs.State{Services: []ipvs.Service{
		{Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("10.96.1.1:80")}, Scheduler: ipvs.WeightedRoundRobin,
			Destinations: []ipvs.Destination{limited, dst("10.1.0.2:65535", 0), method(dst("10.1.0.3:80", 3), ipvs.Direct),
				method(dst("127.0.0.1:80", 3), ipvs.Local)}},
		{Key: ipvs.Key{Protocol: ipvs.UDP, Address: ap("10.96.1.1:53")}, Scheduler: ipvs.SourceHashing, HashPort: true, Fallback: true,
			OnePacket: true, Destinations: []ipvs.Destination{method(dst("10.1.0.4:53", 1), ipvs.Direct)}},
		{Key: ipvs.Key{Protocol: ipvs.SCTP, Address: ap("10.96.1.1:99")}, Scheduler: ipvs.Maglev, HashPort: true,
			Destinations: []ipvs.Destination{dst("10.1.0.5:99", 1)}},
		{Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("10.96.1.2:0")}, Scheduler: ipvs.RoundRobin,
			Persistence:  ipvs.Persistence{Timeout: time.Hour, Prefix: 24},
			Destinations: []ipvs.Destination{method(dst("10.1.0.6:0", 1), ipvs.Direct)}},
		{Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("10.96.1.3:443")}, Scheduler: ipvs.LeastConnection, Destinations: []ipvs.Destination{
			tunnel(dst("10.1.0.7:443", 1), ipvs.Tunnel{}),
			tunnel(dst("10.1.0.8:443", 1), ipvs.Tunnel{Type: ipvs.GUE, Port: 6080}),
			tunnel(dst("10.1.0.9:443", 1), ipvs.Tunnel{Type: ipvs.GUE, Port: 6080, Checksum: ipvs.Checksum}),
			tunnel(dst("10.1.0.10:443", 1), ipvs.Tunnel{Type: ipvs.GUE, Port: 6080, Checksum: ipvs.RemoteChecksum}),
			tunnel(dst("10.1.0.11:443", 1), ipvs.Tunnel{Type: ipvs.GRE}),
			tunnel(dst("10.1.0.12:443", 1), ipvs.Tunnel{Type: ipvs.GRE, Checksum: ipvs.Checksum}),
			tunnel(dst("[fd01::7]:443", 1), ipvs.Tunnel{}),
		}},
		{Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("[fd96::1]:80")}, Scheduler: ipvs.WeightedLeastConnection,
			Persistence:  ipvs.Persistence{Timeout: 5 * time.Minute, Prefix: 64},
			Destinations: []ipvs.Destination{dst("[fd01::1]:81", 2), tunnel(dst("10.1.0.7:80", 1), ipvs.Tunnel{})}},
		{Key: ipvs.Key{Protocol: ipvs.UDP, Address: ap("[fd96::1]:5060")}, Scheduler: ipvs.RoundRobin,
			Persistence:  ipvs.Persistence{Timeout: time.Minute, Engine: "sip"},
			Destinations: []ipvs.Destination{dst("[fd01::2]:5060", 1)}},
		{Key: ipvs.Key{Mark: 7, Family: ipvs.IPv4}, Scheduler: ipvs.RoundRobin, Destinations: []ipvs.Destination{dst("10.1.0.13:0", 1)}},
		{Key: ipvs.Key{Mark: 7, Family: ipvs.IPv6}, Scheduler: ipvs.RoundRobin, Destinations: []ipvs.Destination{dst("[fd01::3]:0", 1)}},
		{Key: ipvs.Key{Mark: 1<<32 - 1, Family: ipvs.IPv4}, Scheduler: ipvs.RoundRobin},
	}}
	for i, scheduler := range ipvs.Schedulers() {
		if scheduler == ipvs.TwoRandomChoices {
			continue // not in every distribution's kernel
		}
		s.Services = append(s.Services, ipvs.Service{
			Key:          ipvs.Key{Protocol: ipvs.TCP, Address: netip.AddrPortFrom(netip.MustParseAddr("10.96.2.1"), uint16(1000+i))},
			Scheduler:    scheduler,
			Destinations: []ipvs.Destination{dst("10.1.1.1:80", 1), dst("10.1.1.2:80", 2)},
		})
	}
	return s.Canonical()
}

// TestEveryKind writes every setting, reads it back and compares with ipvsadm; then it changes every setting.
func TestEveryKind(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c := newClient(t, ns, ipvs.Everything())
	want := everyKind()
	require.NoError(t, want.Validate())
	_, err := c.Sync(t.Context(), want)
	require.NoError(t, err)
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, have)
	requireIPVSADM(t, ns, want)
	requireThresholds(t, ns, want)

	other := want.Canonical()
	for i := range other.Services {
		s := &other.Services[i]
		s.Destinations = append([]ipvs.Destination(nil), s.Destinations...)
		s.Scheduler, s.HashPort, s.Fallback = ipvs.Maglev, !s.HashPort, !s.Fallback
		if s.Persistence.Timeout == 0 {
			s.Persistence.Timeout = time.Minute
		} else if s.Address.Port() != 0 || s.Mark != 0 {
			s.Persistence = ipvs.Persistence{}
		}
		for j := range s.Destinations {
			d := &s.Destinations[j]
			d.Weight, d.Upper, d.Lower = d.Weight/2+7, d.Upper+5, d.Lower+4
			if d.Method == ipvs.Tunneling && d.Tunnel.Type != ipvs.IPIP {
				d.Tunnel = ipvs.Tunnel{}
			}
		}
	}
	_, err = c.Sync(t.Context(), other)
	require.NoError(t, err)
	have, err = newClient(t, ns, ipvs.Everything()).Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, other.Canonical(), have)
	requireIPVSADM(t, ns, other)

	p, err := c.Plan(t.Context(), want)
	require.NoError(t, err)
	require.NoError(t, c.Apply(t.Context(), p))
	requireIPVSADM(t, ns, want)
	info, err := c.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, ipvs.Info{Version: "1.2.1", TableSize: info.TableSize}, info)
	require.GreaterOrEqual(t, info.TableSize, uint32(256))
}
