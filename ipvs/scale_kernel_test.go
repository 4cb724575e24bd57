//go:build linux

package ipvs_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// TestTenThousand programs 10,000 virtual servers of both families and sends packets through some of them.
func TestTenThousand(t *testing.T) {
	l := newLab(t, 2)
	want := ipvs.State{}
	address := func(v6 bool, i int) netip.AddrPort {
		if v6 {
			return netip.AddrPortFrom(netip.AddrFrom16([16]byte{0xfd, 0x96, 14: byte(i >> 8), 15: byte(i)}), 80)
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}), 80)
	}
	for i := 1; i <= 5000; i++ {
		for _, v6 := range []bool{false, true} {
			want.Services = append(want.Services, ipvs.Service{Key: ipvs.Key{Protocol: ipvs.TCP, Address: address(v6, i)},
				Scheduler: ipvs.RoundRobin, Destinations: l.masqueraded(v6)})
		}
	}
	want = want.Canonical()
	_, err := l.ipvs.Sync(t.Context(), want)
	require.NoError(t, err)
	have, err := newClient(t, l.director, ipvs.Everything()).Read(t.Context())
	require.NoError(t, err)
	require.True(t, ipvs.Diff(want, have).Empty())
	for _, i := range []int{1, 2500, 5000} {
		for _, v6 := range []bool{false, true} {
			require.Equal(t, map[string]int{"a": 1, "b": 1}, l.spread(t, "tcp", address(v6, i), 2))
		}
	}
	change := ipvs.Change{Set: []ipvs.Service{{Key: want.Services[0].Key, Scheduler: ipvs.RoundRobin}}, Drop: []ipvs.Key{want.Services[9999].Key}}
	p, err := l.ipvs.Update(t.Context(), change)
	require.NoError(t, err)
	require.Equal(t, 3, strings.Count(p.String(), "\n"), p.String())
	p, err = l.ipvs.Sync(t.Context(), want.Apply(change))
	require.NoError(t, err)
	require.True(t, p.Empty(), p.String())
}

// TestConcurrentWriters reads and syncs services while another client keeps adding and removing others: the kernel's listings are wrong
// then, what the client says is not.
func TestConcurrentWriters(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	owns := func(p string) ipvs.Owns { return ipvs.Owns{Prefixes: []netip.Prefix{netip.MustParsePrefix(p)}} }
	mine, other := newClient(t, ns, owns("10.97.0.0/16")), newClient(t, ns, owns("10.96.0.0/16"))
	want := ipvs.State{}
	for i := range 150 {
		want.Services = append(want.Services, simple(fmt.Sprintf("10.97.%d.%d:80", i/250, i%250+1), "10.1.0.1:80", "10.1.0.2:80"))
	}
	want = want.Canonical()
	_, err := mine.Sync(t.Context(), want)
	require.NoError(t, err)

	stop := make(chan struct{})
	var writers sync.WaitGroup
	defer writers.Wait()
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	var batches [2]ipvs.Change // hundreds at once: they leave much out of listings
	for i := range 200 {
		s := simple(fmt.Sprintf("10.96.%d.%d:80", i/100, i%100+1))
		batches[0].Set, batches[1].Drop = append(batches[0].Set, s), append(batches[1].Drop, s.Key)
	}
	var writes int
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			if _, err := other.Update(t.Context(), batches[i%2]); err != nil {
				t.Error(err)
				return
			}
			writes++
		}
	})
	for range 12 {
		fresh, ignorant := newClient(t, ns, owns("10.97.0.0/16")), newClient(t, ns, owns("10.97.0.0/16"))
		have, err := fresh.Read(t.Context())
		require.NoError(t, err)
		require.True(t, ipvs.Diff(want, have).Empty(), ipvs.Diff(want, have).String())
		p, err := mine.Sync(t.Context(), want)
		require.NoError(t, err)
		require.True(t, p.Empty(), p.String())
		for _, c := range []*ipvs.Client{ignorant, mine} {
			stats, err := c.Stats(t.Context())
			require.NoError(t, err)
			require.Len(t, stats, len(want.Services))
		}
		foreign, err := other.Foreign(t.Context())
		require.NoError(t, err)
		require.Len(t, foreign, len(want.Services))
	}
	end()
	writers.Wait()
	require.Greater(t, writes, 5)
}

// TestRivals: two clients that own the same make different states of it, at the same time. None of them fails, and who is last has it all.
func TestRivals(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	ns := nstest.New(t)
	c, rival := newClient(t, ns, ipvs.Everything()), newClient(t, ns, ipvs.Everything())
	var want ipvs.State
	for i := range 60 {
		want.Services = append(want.Services, simple(fmt.Sprintf("10.97.0.%d:80", i+1), "10.1.0.1:80", "10.1.0.2:80", "10.1.0.3:80"))
	}
	want = want.Canonical()
	stop := make(chan struct{})
	var writers sync.WaitGroup
	defer writers.Wait()
	end := sync.OnceFunc(func() { close(stop) })
	defer end()
	writers.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(200 * time.Microsecond):
			}
			s := simple(fmt.Sprintf("10.97.0.%d:80", i*7%60+1), "10.1.0.2:80", fmt.Sprintf("10.2.0.%d:80", i%5+1))
			change := ipvs.Change{Set: []ipvs.Service{s}}
			if i%2 == 1 {
				change = ipvs.Change{Drop: []ipvs.Key{s.Key}}
			}
			if _, err := rival.Update(t.Context(), change); err != nil {
				t.Error(err)
				return
			}
		}
	})
	for i := range 8 {
		_, err := c.Sync(t.Context(), want)
		require.NoError(t, err)
		_, err = c.Read(t.Context())
		require.NoError(t, err)
		_, err = c.Update(t.Context(), ipvs.Change{Set: want.Services[:30], Drop: []ipvs.Key{want.Services[30+i].Key}})
		require.NoError(t, err)
	}
	end()
	writers.Wait()
	_, err := c.Sync(t.Context(), want)
	require.NoError(t, err)
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, have)
	requireIPVSADM(t, ns, want)
}

// TestManyRefusals makes nearly every second request of several datagrams fail: each failure is named, the others are done. The kernel
// refuses destinations of another family while a daemon runs.
func TestManyRefusals(t *testing.T) {
	nstest.Require(t, nstest.IPVS)
	nstest.Leaks(t)
	a, _ := nstest.Pair(t)
	c := newClient(t, a.NS, ipvs.Everything())
	require.NoError(t, c.StartDaemon(t.Context(), ipvs.Daemon{Role: ipvs.Master, Interface: a.Link}))
	var want, possible ipvs.State
	for i := range 1000 {
		s := simple(fmt.Sprintf("10.96.%d.%d:80", i/250, i%250+1))
		if possible.Services = append(possible.Services, s); i != 500 {
			s.Destinations = []ipvs.Destination{{Address: netip.MustParseAddrPort("[fd01::1]:80"), Method: ipvs.Tunneling}}
		}
		want.Services = append(want.Services, s)
	}
	_, err := c.Sync(t.Context(), want)
	require.ErrorContains(t, err, "ipvs: add tcp 10.96.0.1:80 -> [fd01::1]:80: ")
	require.Equal(t, 999, strings.Count(err.Error(), " -> [fd01::1]:80: "))
	have, err := c.Read(t.Context())
	require.NoError(t, err)
	require.Equal(t, possible.Canonical(), have)
	require.NoError(t, c.StopDaemon(t.Context(), ipvs.Master))
	_, err = c.Sync(t.Context(), want)
	require.NoError(t, err)
}

// TestPortReuse: a client that uses its port again gets away from a drained destination, but not with conn_reuse_mode 0.
func TestPortReuse(t *testing.T) {
	l := newLab(t, 2)
	require.NoError(t, l.client.SetSysctl("net.ipv4.tcp_tw_reuse", "1"))
	for mode, want := range []string{"a", "b"} {
		port := 40000 + mode
		require.NoError(t, l.ipvs.SetSysctls(ipvs.Sysctls{ConnReuseMode: mode}))
		services := []ipvs.Service{l.service(false, ipvs.TCP, ipvs.WeightedFailover, 9, 1), l.service(true, ipvs.TCP, ipvs.WeightedFailover, 9, 1)}
		l.sync(t)
		l.sync(t, services...)
		for _, v6 := range []bool{false, true} {
			require.Equal(t, "a", askFrom(t, l.client, port, vip(v6, 80)))
		}
		for i := range services {
			services[i].Destinations[0].Weight = 0
		}
		l.sync(t, services...)
		time.Sleep(1100 * time.Millisecond) // the client's kernel does not use the port earlier
		for _, v6 := range []bool{false, true} {
			require.Equal(t, want, askFrom(t, l.client, port, vip(v6, 80)), "mode %d, v6 %v", mode, v6)
		}
	}
}

// askFrom asks once from a port and closes first.
func askFrom(t *testing.T, ns *netns.NS, port int, to netip.AddrPort) string {
	t.Helper()
	d := netns.Dialer{NS: ns, Dialer: net.Dialer{LocalAddr: &net.TCPAddr{Port: port}, Timeout: 10 * time.Second,
		Control: func(_, _ string, c syscall.RawConn) (err error) {
			cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			if cerr != nil {
				return cerr
			}
			return err
		}}}
	c, err := d.DialContext(t.Context(), "tcp", to.String())
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(10*time.Second)))
	_, err = c.Write([]byte("who\n"))
	require.NoError(t, err)
	line, err := bufio.NewReader(c).ReadString('\n')
	require.NoError(t, err)
	require.NoError(t, c.(*net.TCPConn).CloseWrite())
	_, _ = c.Read(make([]byte, 1)) // the server's FIN
	return strings.Fields(line)[0]
}
