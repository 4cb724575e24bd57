package proxy

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

func TestDetect(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		said string
		want stream.Protocol // Unknown: it takes more
	}{
		{"", stream.Unknown},
		{"GET / HTTP/1.1\r\n", stream.HTTP1},
		{"GET / HTTP/1.0\n", stream.HTTP1},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", stream.HTTP1},
		{"M-SEARCH http://a/b?c HTTP/1.1\r\n", stream.HTTP1},
		{"G", stream.Unknown},
		{"GET ", stream.Unknown},
		{"GET /a", stream.Unknown},
		{"GET /a HTT", stream.Unknown},
		{"GET /a HTTP/1.1\r", stream.Unknown},
		{"GET /a HTTP/2.0", stream.TCP},
		{"GET /a b HTTP/1.1\r\n", stream.TCP},
		{"GET  HTTP/1.1\r\n", stream.TCP},
		{"GET key\r\n", stream.TCP},   // Redis, and HTTP/0.9
		{"PING\r\n", stream.TCP},      // Redis
		{"*1\r\n$4\r\n", stream.TCP},  // Redis
		{"get key\r\n", stream.TCP},   // memcached
		{"EHLO a.b\r\n", stream.TCP},  // SMTP
		{"SSH-2.0-x\r\n", stream.TCP}, // both speak at once
		{"\x16\x03\x01\x02\x00\x01", stream.TCP},
		{"\x00\x00\x00\x08\x04\xd2\x16\x2f", stream.TCP}, // PostgreSQL
		{"PRI", stream.Unknown},
		{preface, stream.HTTP2},
		{preface + "\x00\x00\x00\x04", stream.HTTP2},
		{"PRI * HTTP/2.0\r\n\r\nXX", stream.TCP},
		{"GET /" + strings.Repeat("a", longestLine), stream.TCP},
		{strings.Repeat("A", 21), stream.TCP},
	} {
		got, more := detect([]byte(c.said))
		require.Equal(t, c.want == stream.Unknown, more, "%.40q", c.said)
		require.Equal(t, c.want, got, "%.40q", c.said)
	}
}

// However the bytes are cut up, the outcome is that of the whole.
func FuzzDetect(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", preface, "PING\r\n", "\x16\x03", "GET /\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, more := detect(b)
		for i := range b {
			if p, undecided := detect(b[:i]); !undecided && (more || p != whole) {
				t.Fatalf("%q is %v, and %q is %v, %v", b[:i], p, b, whole, more)
			}
		}
	})
}

func TestIsTLS(t *testing.T) {
	t.Parallel()
	for said, want := range map[string][2]bool{"": {false, true}, "\x16": {false, true}, "\x16\x03": {true, false}, "\x16\x02": {false, false}, "G": {false, false}} {
		is, more := isTLS([]byte(said))
		require.Equal(t, want, [2]bool{is, more}, "%q", said)
	}
}
