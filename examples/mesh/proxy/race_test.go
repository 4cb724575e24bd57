package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// ends is both ends of a connection.
func ends(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	far, err = net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	near, err = l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

// start runs a race of a client against a server; slow holds the connection to
// the server back until it is closed.
func start(t *testing.T, wait waits, slow <-chan struct{}) (client, server net.Conn, dialed <-chan struct{}, done <-chan outcome) {
	t.Helper()
	near, client := ends(t)
	toServer, server := ends(t)
	began, out := make(chan struct{}), make(chan outcome, 1)
	go func() {
		o, err := race(t.Context(), near, wait, func(ctx context.Context) (net.Conn, bool, error) {
			close(began)
			if slow != nil {
				select {
				case <-slow:
				case <-ctx.Done():
					return nil, false, ctx.Err()
				}
			}
			return toServer, true, nil
		}, detect)
		if err != nil {
			t.Error(err)
		}
		out <- o
	}()
	return client, server, began, out
}

func passes(t *testing.T, o outcome, client, server net.Conn, fromClient, fromServer string) {
	t.Helper()
	require.Equal(t, stream.TCP, o.protocol)
	require.True(t, o.secure)
	go func() { _, _, _ = pass(o.client, o.server) }()
	for _, way := range []struct {
		from, to net.Conn
		said     string
	}{{client, server, fromClient}, {server, client, fromServer}} {
		_ = way.to.SetDeadline(time.Now().Add(5 * time.Second))
		_, err := io.WriteString(way.from, " more")
		require.NoError(t, err)
		got := make([]byte, len(way.said)+5)
		_, err = io.ReadFull(way.to, got)
		require.NoError(t, err)
		require.Equal(t, way.said+" more", string(got))
	}
}

func TestRaceServerFirst(t *testing.T) {
	t.Parallel()
	for _, wait := range []waits{{}, {dial: head}, {hold: 30 * time.Millisecond}} {
		client, server, _, done := start(t, wait, nil)
		_, err := io.WriteString(server, "220 hello\r\n")
		require.NoError(t, err)
		passes(t, <-done, client, server, "", "220 hello\r\n")
	}
}

func TestRaceClientFirst(t *testing.T) {
	t.Parallel()
	slow := make(chan struct{})
	client, server, dialed, done := start(t, waits{}, slow)
	_, err := io.WriteString(client, "PING\r\n")
	require.NoError(t, err)
	<-dialed
	time.AfterFunc(20*time.Millisecond, func() { close(slow) })
	passes(t, <-done, client, server, "PING\r\n", "")
}

// Bytes in pieces, that turn out to be HTTP, or not to.
func TestRacePieces(t *testing.T) {
	t.Parallel()
	client, _, _, done := start(t, waits{dial: head}, make(chan struct{}))
	for _, piece := range []string{"GE", "T / HT", "TP/1.1\r\n"} {
		_, err := io.WriteString(client, piece)
		require.NoError(t, err)
		time.Sleep(10 * time.Millisecond)
	}
	o := <-done
	require.Equal(t, stream.HTTP1, o.protocol)
	got := make([]byte, 16)
	_, err := io.ReadFull(o.client, got)
	require.NoError(t, err)
	require.Equal(t, "GET / HTTP/1.1\r\n", string(got))

	client, server, _, done := start(t, waits{}, nil)
	for _, piece := range []string{"GET ", "key\r\n"} {
		_, err := io.WriteString(client, piece)
		require.NoError(t, err)
		time.Sleep(10 * time.Millisecond)
	}
	passes(t, <-done, client, server, "GET key\r\n", "")
}

// A client that stops in the middle of what may be HTTP, and a server that
// speaks meanwhile.
func TestRaceUnfinished(t *testing.T) {
	t.Parallel()
	client, server, _, done := start(t, waits{}, nil)
	_, err := io.WriteString(client, "GET /a")
	require.NoError(t, err)
	began := time.Now()
	o := <-done
	require.Less(t, time.Since(began), 10*unfinished)
	passes(t, o, client, server, "GET /a", "")

	client, server, _, done = start(t, waits{}, nil)
	_, err = io.WriteString(client, "USER ")
	require.NoError(t, err)
	_, err = io.WriteString(server, "220\r\n")
	require.NoError(t, err)
	passes(t, <-done, client, server, "USER ", "220\r\n")
}

// The server is not connected to for a client that speaks HTTP at once, where
// that is the habit.
func TestRaceHabit(t *testing.T) {
	t.Parallel()
	client, _, dialed, done := start(t, waits{dial: head}, nil)
	_, err := io.WriteString(client, preface)
	require.NoError(t, err)
	require.Equal(t, stream.HTTP2, (<-done).protocol)
	select {
	case <-dialed:
		t.Log("the machine was slow")
	default:
	}
	h := habits{}
	to := netip.MustParseAddrPort("10.0.0.1:80")
	require.False(t, h.speaksHTTP(to))
	h.learn(to, stream.HTTP2)
	require.True(t, h.speaksHTTP(to))
	h.learn(to, stream.TCP)
	require.False(t, h.speaksHTTP(to))
}

// A server's first words are held back from a client that speaks meanwhile.
func TestRaceHold(t *testing.T) {
	t.Parallel()
	client, server, dialed, done := start(t, waits{hold: time.Minute}, nil)
	<-dialed
	_, err := io.WriteString(server, "220 hello\r\n")
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond)
	_, err = io.WriteString(client, "GET / HTTP/1.1\r\n")
	require.NoError(t, err)
	require.Equal(t, stream.HTTP1, (<-done).protocol)

	client, server, dialed, done = start(t, waits{hold: time.Minute}, nil)
	<-dialed
	_, err = io.WriteString(server, "220 hello\r\n")
	require.NoError(t, err)
	time.Sleep(20 * time.Millisecond)
	_, err = io.WriteString(client, "EHLO a\r\n")
	require.NoError(t, err)
	passes(t, <-done, client, server, "EHLO a\r\n", "220 hello\r\n")
}

func TestRaceUnreachable(t *testing.T) {
	t.Parallel()
	near, _ := ends(t)
	_, err := race(t.Context(), near, waits{}, func(context.Context) (net.Conn, bool, error) { return nil, false, errors.New("no way") }, detect)
	require.EqualError(t, err, "no way")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	near, _ = ends(t)
	_, err = race(ctx, near, waits{dial: head}, func(ctx context.Context) (net.Conn, bool, error) { return nil, false, ctx.Err() }, detect)
	require.ErrorIs(t, err, context.Canceled)
}

// A client that ends its side before it says anything.
func TestRaceSilence(t *testing.T) {
	t.Parallel()
	client, server, _, done := start(t, waits{}, nil)
	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	o := <-done
	go func() { _, _, _ = pass(o.client, o.server) }()
	_, err := io.ReadAll(server)
	require.NoError(t, err)
	_, err = io.WriteString(server, "bye")
	require.NoError(t, err)
	require.NoError(t, server.Close())
	got, err := io.ReadAll(client)
	require.NoError(t, err)
	require.Equal(t, "bye", string(got))
}
