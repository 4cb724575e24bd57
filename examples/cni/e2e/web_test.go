package e2e_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// ask asks a pod's web server from a namespace.
func ask(t testing.TB, from *netns.NS, to netip.AddrPort) answer {
	t.Helper()
	var text string
	err := attempt(func() (err error) {
		text, err = fetch(from, fmt.Sprintf("http://%s/cgi-bin/whoami", to))
		return err
	})
	if err != nil {
		return answer{pod: err.Error()}
	}
	return parseAnswer(t, text)
}

// get asks a server of serveHTTP.
func get(t testing.TB, from *netns.NS, to netip.AddrPort) string {
	t.Helper()
	text, err := fetch(from, fmt.Sprintf("http://%s/", to))
	require.NoError(t, err)
	return text
}

func fetch(from *netns.NS, url string) (string, error) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return from.DialContext(ctx, network, address)
		},
	}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// serveHTTP answers on port 80 of an address in a namespace.
func serveHTTP(t testing.TB, in *netns.NS, addr netip.Addr) {
	t.Helper()
	listener, err := in.Listen(t.Context(), "tcp", netip.AddrPortFrom(addr, 80).String())
	require.NoError(t, err)
	server := http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "pod") })}
	done := make(chan struct{})
	go func() {
		_ = server.Serve(listener)
		close(done)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
}

func linkError(name string) error {
	_, err := net.InterfaceByName(name)
	return err
}
