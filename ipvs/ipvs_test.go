package ipvs_test

import (
	"encoding/json"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/ipvs"
)

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

func randomAddress(r *rand.Rand, v6 bool) netip.Addr {
	if v6 {
		return netip.AddrFrom16([16]byte{0xfd, 15: byte(1 + r.IntN(5))})
	}
	return netip.AddrFrom4([4]byte{10, 96, byte(r.IntN(256)), byte(1 + r.IntN(5))})
}

// randomService is valid.
func randomService(r *rand.Rand) ipvs.Service {
	v6 := r.IntN(2) == 0
	var s ipvs.Service
	family := ipvs.IPv4
	bits := 32
	if v6 {
		family, bits = ipvs.IPv6, 128
	}
	if r.IntN(4) == 0 {
		s.Mark, s.Family = 1+r.Uint32N(3), family
	} else {
		s.Protocol = pick(r, ipvs.TCP, ipvs.UDP, ipvs.SCTP)
		s.Address = netip.AddrPortFrom(randomAddress(r, v6), pick[uint16](r, 80, 81, 0x1234))
	}
	s.Scheduler = pick(r, append(ipvs.Schedulers(), "", "own-one")...)
	if s.Scheduler == ipvs.SourceHashing || s.Scheduler == ipvs.Maglev {
		s.HashPort, s.Fallback = r.IntN(2) == 0, r.IntN(2) == 0
	}
	if r.IntN(2) == 0 {
		s.Persistence = ipvs.Persistence{Timeout: time.Duration(1+r.IntN(4000)) * time.Second, Prefix: r.IntN(bits + 1)}
	}
	seen := map[netip.AddrPort]bool{}
	for range r.IntN(5) {
		d := ipvs.Destination{Weight: r.Uint32N(1 << 31), Upper: r.Uint32()}
		d.Lower = r.Uint32N(max(d.Upper, 1))
		d.Method = pick(r, ipvs.Masquerade, ipvs.Local, ipvs.Tunneling, ipvs.Direct)
		other := v6
		if d.Method == ipvs.Tunneling {
			other = r.IntN(2) == 0
			switch d.Tunnel.Type = pick(r, ipvs.IPIP, ipvs.GUE, ipvs.GRE); d.Tunnel.Type {
			case ipvs.GUE:
				d.Tunnel.Port, d.Tunnel.Checksum = 0x1234, pick(r, ipvs.NoChecksum, ipvs.Checksum, ipvs.RemoteChecksum)
			case ipvs.GRE:
				d.Tunnel.Checksum = pick(r, ipvs.NoChecksum, ipvs.Checksum)
			}
		}
		port := s.Address.Port()
		if s.Mark == 0 && d.Method == ipvs.Masquerade {
			port = 8080
		}
		if d.Address = netip.AddrPortFrom(randomAddress(r, other), port); !seen[d.Address] {
			s.Destinations = append(s.Destinations, d)
		}
		seen[d.Address] = true
	}
	return s
}

func randomState(r *rand.Rand) ipvs.State {
	var s ipvs.State
	seen := map[ipvs.Key]bool{}
	for range r.IntN(6) {
		if v := randomService(r); !seen[v.Key] {
			seen[v.Key] = true
			s.Services = append(s.Services, v)
		}
	}
	return s
}

// TestCodecRoundTrip sends random services through the codec: what comes back is the canonical form.
func TestCodecRoundTrip(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		s := randomService(r)
		require.NoError(t, ipvs.State{Services: []ipvs.Service{s}}.Validate())
		want := ipvs.State{Services: []ipvs.Service{s}}.Canonical().Services[0]
		got, _, err := ipvs.DecodeService(ipvs.EncodeService(s))
		require.NoError(t, err)
		for _, d := range want.Destinations {
			back, _, err := ipvs.DecodeDestination(ipvs.EncodeDestination(d), ipvs.IPv4)
			require.NoError(t, err)
			got.Destinations = append(got.Destinations, back)
		}
		require.Equal(t, want, got)
	}
}

func TestDiffLaws(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 2000 {
		have, want := randomState(r), randomState(r)
		require.True(t, ipvs.Diff(have, have.Canonical()).Empty())
		r.Shuffle(len(have.Services), func(i, j int) { have.Services[i], have.Services[j] = have.Services[j], have.Services[i] })
		require.True(t, ipvs.Diff(have.Canonical(), have).Empty())
		require.Equal(t, have.Canonical(), have.Canonical().Canonical())

		p := ipvs.Diff(have, want)
		require.Equal(t, p.Empty(), p.String() == "")
		change := ipvs.Change{}
		wanted := map[ipvs.Key]ipvs.Service{}
		for _, s := range want.Services {
			wanted[s.Key] = s
		}
		for i, k := range p.Keys() {
			if i > 0 {
				require.Negative(t, p.Keys()[i-1].Compare(k))
			}
			if s, ok := wanted[k]; ok {
				change.Set = append(change.Set, s)
			} else {
				change.Drop = append(change.Drop, k)
			}
		}
		require.NoError(t, change.Validate())
		require.Equal(t, want.Canonical(), have.Apply(change), "changing what the plan names makes one state of the other")
	}
}

func TestPlanString(t *testing.T) {
	t.Parallel()
	ap := netip.MustParseAddrPort
	have := ipvs.State{Services: []ipvs.Service{
		{Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("10.96.0.10:80")}, Scheduler: ipvs.RoundRobin, Destinations: []ipvs.Destination{
			{Address: ap("10.244.1.2:8080"), Weight: 1}, {Address: ap("10.244.1.3:8080"), Weight: 1}}},
		{Key: ipvs.Key{Protocol: ipvs.UDP, Address: ap("[fd96::1]:53")}, Destinations: []ipvs.Destination{{Address: ap("[fd44::1]:53")}}},
	}}
	want := ipvs.State{Services: []ipvs.Service{
		{Key: ipvs.Key{Protocol: ipvs.TCP, Address: ap("10.96.0.10:80")}, Scheduler: ipvs.SourceHashing, HashPort: true,
			Persistence: ipvs.Persistence{Timeout: time.Hour, Prefix: 24}, Destinations: []ipvs.Destination{
				{Address: ap("10.244.1.3:8080"), Weight: 0}, {Address: ap("10.244.2.2:8080"), Weight: 1, Upper: 10}}},
		{Key: ipvs.Key{Mark: 7, Family: ipvs.IPv6}, Destinations: []ipvs.Destination{
			{Address: ap("10.1.0.1:0"), Weight: 3, Method: ipvs.Tunneling, Tunnel: ipvs.Tunnel{Type: ipvs.GUE, Port: 6080, Checksum: ipvs.Checksum}}}},
	}}
	require.Equal(t, strings.TrimLeft(`
~ service tcp 10.96.0.10:80: rr -> sh hash-port persistent 1h0m0s by /24
- destination tcp 10.96.0.10:80 10.244.1.2:8080
~ destination tcp 10.96.0.10:80 10.244.1.3:8080: masquerade weight 1 -> masquerade weight 0
+ destination tcp 10.96.0.10:80 10.244.2.2:8080: masquerade weight 1 upper 10 lower 0
- service udp [fd96::1]:53: with its destinations, 1
+ service mark 7 ipv6: wlc
+ destination mark 7 ipv6 10.1.0.1:0: tunnel weight 3 gue port 6080 checksum
`, "\n"), ipvs.Diff(have, want).String())
}

func TestJSON(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(5, 6))
	for range 200 {
		want := randomState(r)
		text, err := json.Marshal(want)
		require.NoError(t, err)
		var got ipvs.State
		require.NoError(t, json.Unmarshal(text, &got))
		require.Equal(t, want, got, string(text))
	}
	var s ipvs.State
	require.ErrorContains(t, json.Unmarshal([]byte(`{"services":[{"protocol":"icmp"}]}`), &s), `ipvs: "icmp": no such value`)
	require.Equal(t, "method(9)", ipvs.Method(9).String())
	_, err := ipvs.Method(9).MarshalText()
	require.Error(t, err)
}

func TestOwns(t *testing.T) {
	t.Parallel()
	o := ipvs.Owns{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/16")}, Marks: []ipvs.MarkRange{{First: 2, Last: 3}}}
	require.NoError(t, ipvs.Config{Owns: o}.Validate())
	require.NoError(t, ipvs.Config{Owns: ipvs.Everything()}.Validate())
	for mark, want := range map[uint32]bool{1: false, 2: true, 3: true, 4: false} {
		require.Equal(t, want, o.Contains(ipvs.Key{Mark: mark, Family: ipvs.IPv4}))
	}
	for address, want := range map[string]bool{"10.96.255.255:1": true, "10.97.0.0:1": false, "[fd96::1]:1": false} {
		require.Equal(t, want, o.Contains(ipvs.Key{Protocol: ipvs.TCP, Address: netip.MustParseAddrPort(address)}))
	}
	_, err := ipvs.New(ipvs.Config{})
	require.EqualError(t, err, "ipvs: new: owns: no prefix and no mark: nothing could be owned")
	bad := ipvs.Config{Owns: ipvs.Owns{Prefixes: []netip.Prefix{{}, netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("::ffff:10.0.0.0/104")},
		Marks: []ipvs.MarkRange{{First: 0, Last: 1}, {First: 2, Last: 1}}}}
	require.EqualError(t, bad.Validate(), "owns.prefixes[0]: no prefix\nowns.prefixes[1]: 10.0.0.1/8 has bits after its length; 10.0.0.0/8 has not\n"+
		"owns.prefixes[2]: ::ffff:10.0.0.0/104 is IPv4 written as IPv6\nowns.marks[0]: 0 to 1 is not a range of marks from 1 up\n"+
		"owns.marks[1]: 2 to 1 is not a range of marks from 1 up")
}

// FuzzDecode must not crash, and what it makes of kernel bytes must survive the way back.
// TestCanonical: what is canonical is told apart from what is not.
func TestCanonical(t *testing.T) {
	t.Parallel()
	require.True(t, ipvs.State{}.IsCanonical())
	r := rand.New(rand.NewPCG(3, 9))
	changed := 0
	for range 300 {
		s := randomState(r)
		canonical := s.Canonical()
		require.True(t, canonical.IsCanonical())
		before, err := json.Marshal(s)
		require.NoError(t, err)
		after, err := json.Marshal(canonical)
		require.NoError(t, err)
		if string(before) != string(after) {
			changed++
			require.False(t, s.IsCanonical(), "%s", before)
		}
	}
	require.Greater(t, changed, 30)
}

func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(7, 8))
	for range 50 {
		s := randomService(r)
		f.Add(ipvs.EncodeService(s))
		for _, d := range s.Destinations {
			f.Add(ipvs.EncodeDestination(d))
		}
	}
	for _, c := range captures(f) {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, _, err := ipvs.DecodeService(b); err == nil {
			again, _, err := ipvs.DecodeService(ipvs.EncodeService(s))
			require.NoError(t, err)
			if (ipvs.State{Services: []ipvs.Service{s}}).Validate() == nil {
				require.Equal(t, ipvs.State{Services: []ipvs.Service{s}}.Canonical().Services[0], again)
			}
		}
		d, _, err := ipvs.DecodeDestination(b, ipvs.IPv6)
		if listed, err2 := ipvs.ListDestination(b, ipvs.IPv6); err == nil {
			require.NoError(t, err2)
			require.Equal(t, d, listed)
		}
		if err == nil && d.Tunnel.Checksum <= ipvs.RemoteChecksum {
			again, _, err := ipvs.DecodeDestination(ipvs.EncodeDestination(d), ipvs.IPv6)
			require.NoError(t, err)
			require.Equal(t, d, again)
		}
	})
}

// FuzzDiff feeds JSON states: Diff of what is valid keeps its laws.
func FuzzDiff(f *testing.F) {
	r := rand.New(rand.NewPCG(9, 10))
	for range 20 {
		a, err := json.Marshal(randomState(r))
		require.NoError(f, err)
		b, err := json.Marshal(randomState(r))
		require.NoError(f, err)
		f.Add(a, b)
	}
	f.Fuzz(func(t *testing.T, a, b []byte) {
		var have, want ipvs.State
		if json.Unmarshal(a, &have) != nil || json.Unmarshal(b, &want) != nil {
			return
		}
		bad := have.Validate() != nil || want.Validate() != nil
		p := ipvs.Diff(have, want)
		if bad {
			return
		}
		require.True(t, ipvs.Diff(have, have).Empty())
		same := ipvs.Diff(want, have)
		require.Equal(t, p.Empty(), same.Empty())
	})
}
