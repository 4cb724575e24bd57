package main

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// load is clients that open connections without end, and some that keep theirs open. Each must succeed.
type load struct {
	stop   chan struct{}
	group  sync.WaitGroup
	mu     sync.Mutex
	opened int
	echoed int
	faults []string
	slow   time.Duration // of the slowest
}

// steady starts clients in these namespaces, for connections to these addresses.
func steady(t testing.TB, from []*netns.NS, to []netip.AddrPort) *load {
	t.Helper()
	l := &load{stop: make(chan struct{})}
	for _, ns := range from {
		l.group.Go(func() { l.keepOpening(ns, to) })
		for i := 0; i < len(to) && i < 4; i++ {
			conn, _, err := open(ns, "tcp", to[i])
			require.NoError(t, err)
			l.group.Go(func() { l.keepTalking(conn) })
		}
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) ended() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

func (l *load) keepOpening(ns *netns.NS, to []netip.AddrPort) {
	for !l.ended() {
		target := to[rand.IntN(len(to))]
		begin := time.Now()
		_, err := ask(ns, "tcp", target)
		l.note(&l.opened, time.Since(begin), fmt.Sprintf("connection to %s", target), err)
		time.Sleep(2 * time.Millisecond)
	}
}

// keepTalking sends lines over a connection, which a server sends back.
func (l *load) keepTalking(conn net.Conn) {
	defer conn.Close()
	for !l.ended() {
		begin := time.Now()
		_ = conn.SetDeadline(begin.Add(askTimeout))
		_, err := conn.Write([]byte("?"))
		if err == nil {
			_, err = conn.Read(make([]byte, 1))
		}
		l.note(&l.echoed, time.Since(begin), "open connection to "+conn.RemoteAddr().String(), err)
		if err != nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func (l *load) note(counter *int, took time.Duration, what string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	*counter++
	l.slow = max(l.slow, took)
	if err != nil {
		l.faults = append(l.faults, fmt.Sprintf("%s after %v: %v", what, took, err))
	}
}

func (l *load) end() {
	if !l.ended() {
		close(l.stop)
	}
	l.group.Wait()
}

// progress waits until that many more connections have been opened.
func (l *load) progress(t testing.TB, n int) {
	t.Helper()
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.opened
	}
	before := count()
	eventually(t, func() bool { return count() >= before+n }, func() string { return fmt.Sprintf("%d of %d connections", count()-before, n) })
}

// unharmed ends the load and requires that nothing of it failed.
func (l *load) unharmed(t testing.TB) {
	t.Helper()
	l.end()
	slices.Sort(l.faults)
	require.Emptyf(t, l.faults, "of %d connections and %d lines:\n%s", l.opened, l.echoed, strings.Join(l.faults[:min(10, len(l.faults))], "\n"))
	t.Logf("%d connections and %d lines over open ones, the slowest in %v", l.opened, l.echoed, l.slow.Round(time.Millisecond))
}
