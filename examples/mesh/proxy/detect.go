package proxy

import (
	"bytes"

	"github.com/podplumb/podplumb/examples/mesh/stream"
)

// preface begins every connection of HTTP/2 (RFC 9113, section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// longestLine is how much of a first line without an end is taken for HTTP.
const longestLine = 8 << 10

// detect says what a client speaks that began with b. It is HTTP/1 if the
// first line is a request line, which other protocols that begin with a word,
// such as Redis, do not have. more says that it takes more bytes to know.
func detect(b []byte) (p stream.Protocol, more bool) {
	if bytes.HasPrefix(b, []byte(preface)) {
		return stream.HTTP2, false
	}
	if bytes.HasPrefix([]byte(preface), b) {
		return stream.Unknown, true
	}
	line, _, whole := bytes.Cut(b, []byte{'\n'})
	if len(line) > longestLine {
		return stream.TCP, false
	}
	method, rest, ok := bytes.Cut(line, []byte{' '})
	if !isMethod(method) {
		return stream.TCP, false
	}
	if !ok && whole {
		return stream.TCP, false
	}
	target, version, ok := bytes.Cut(rest, []byte{' '})
	if bytes.ContainsFunc(target, func(r rune) bool { return r <= ' ' && r != '\r' || r == 0x7f }) || ok && len(target) == 0 {
		return stream.TCP, false
	}
	if !whole {
		if ok && !bytes.HasPrefix([]byte("HTTP/1.1\r"), version) && !bytes.HasPrefix([]byte("HTTP/1.0\r"), version) {
			return stream.TCP, false
		}
		return stream.Unknown, true
	}
	version = bytes.TrimSuffix(version, []byte{'\r'})
	if string(version) == "HTTP/1.1" || string(version) == "HTTP/1.0" {
		return stream.HTTP1, false
	}
	return stream.TCP, false
}

// isMethod holds for the methods in use, which are words in capitals.
func isMethod(b []byte) bool {
	if len(b) == 0 || len(b) > 20 {
		return false
	}
	for _, c := range b {
		if (c < 'A' || c > 'Z') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// isTLS says that b begins as a TLS handshake does; more that it may yet.
func isTLS(b []byte) (is, more bool) {
	switch {
	case len(b) == 0:
		return false, true
	case b[0] != 0x16:
		return false, false
	case len(b) == 1:
		return false, true
	}
	return b[1] == 3, false
}
