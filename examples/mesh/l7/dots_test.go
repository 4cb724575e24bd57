package l7

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzDots: no dot segment is left in what those who decide see, nor in what the server is sent, and both say the same.
func FuzzDots(f *testing.F) {
	for _, p := range []string{"/a/../b", "/a/%2e%2E/b?q=/../x", "//x/../y", "/a/%2F../b", "/..", "/a/.", "/%2e", "/a%2f..%2fb", "http://h/x/../y", "/a/..;/b", "/.%2e/"} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Opaque != "" || !strings.HasPrefix(u.Path, "/") {
			return
		}
		r := &http.Request{Method: "GET", URL: u, RequestURI: target, ProtoMajor: 1, Host: "h"}
		resolveDots(r)
		for _, s := range strings.Split(r.URL.EscapedPath(), "/") {
			require.Zero(t, dots(s), "%q became %q", target, r.RequestURI)
		}
		sent, err := url.ParseRequestURI(r.RequestURI)
		require.NoError(t, err)
		require.Equal(t, r.URL.Path, sent.Path)
		require.Equal(t, u.RawQuery, sent.RawQuery)
		before := r.RequestURI
		resolveDots(r)
		require.Equal(t, before, r.RequestURI)
	})
}

func TestClean(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"Connection": {"close, X-Hop", "x-other,,"}, "X-Hop": {"1"}, "X-Other": {"2"}, "Keep-Alive": {"3"}, "Te": {"gzip, Trailers"}, "Upgrade": {"h2c"},
		"Proxy-Connection": {"4"}, "Http2-Settings": {"5"}, "X-Stays": {"6"},
	}
	clean(h, false)
	require.Equal(t, http.Header{"Te": {"trailers"}, "X-Stays": {"6"}}, h)
	h = http.Header{"Connection": {"upgrade, te"}, "Te": {"gzip"}, "Upgrade": {"WebSocket"}}
	clean(h, true)
	require.Equal(t, http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, h)
}
