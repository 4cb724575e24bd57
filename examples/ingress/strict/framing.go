package strict

import (
	"bytes"
	"strconv"
	"strings"
)

const (
	preface   = "PRI * HTTP/2.0\r\n"
	lineLimit = 1 << 20 // the server's own limit for all headers comes first
)

type state uint8

const (
	requestLine state = iota
	headerLine
	body      // left bytes of it
	chunkSize // a line
	chunkData // left bytes of it
	chunkEnd  // its CRLF
	trailer   // lines
	opaque    // another protocol
)

// framing follows a stream of requests.
type framing struct {
	state  state
	line   []byte // so far, without its end
	length int64  // of the body as declared; -1: none
	coding bool   // chunked
	old    bool   // HTTP/1.0
	left   int64
	begun  bool // not at the very first line any more
}

// take reads on. It returns how many bytes belong to whole and partial requests without a fault, and the fault.
func (f *framing) take(p []byte) (good int, fault string) {
	for i := 0; i < len(p); {
		switch f.state {
		case opaque:
			return len(p), ""
		case body, chunkData:
			n := min(f.left, int64(len(p)-i))
			f.left -= n
			i += int(n)
			if f.left > 0 {
				continue
			}
			if f.state == body {
				f.next()
			} else {
				f.state = chunkEnd
			}
		default:
			end := bytes.IndexByte(p[i:], '\n')
			if end < 0 {
				f.line = append(f.line, p[i:]...)
				if len(f.line) > lineLimit {
					return good, "a line is too long"
				}
				return len(p), ""
			}
			line := p[i : i+end]
			if len(f.line) > 0 {
				f.line = append(f.line, line...)
				line = f.line
			}
			i += end + 1
			if fault := f.end(line); fault != "" {
				return good, fault
			}
		}
		if f.state == requestLine {
			good = i
		}
	}
	return len(p), ""
}

// next waits for a request.
func (f *framing) next() { *f = framing{line: f.line[:0], length: -1, begun: true} }

// end is the end of a line.
func (f *framing) end(line []byte) string {
	line, ok := bytes.CutSuffix(line, []byte("\r"))
	if !ok {
		return "a line ends without a carriage return"
	}
	f.line = f.line[:0]
	if bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0 {
		return "a carriage return or zero inside a line"
	}
	switch f.state {
	case requestLine:
		return f.request(line)
	case headerLine:
		if len(line) == 0 {
			return f.headersEnd()
		}
		return f.header(line)
	case chunkSize:
		return f.chunk(line)
	case chunkEnd:
		if len(line) != 0 {
			return "a chunk is longer than it says"
		}
		f.state = chunkSize
	case trailer:
		if len(line) == 0 {
			f.next()
			return ""
		}
		_, _, fault := field(line)
		return fault
	}
	return ""
}

func (f *framing) request(line []byte) string {
	switch {
	case !f.begun && string(line)+"\r\n" == preface:
		f.state = opaque
		return ""
	case len(line) == 0 && f.begun: // RFC 9112, 2.2: one after a body is tolerated
		return ""
	case bytes.Count(line, []byte(" ")) != 2:
		return "a request line has a method, a target and a version, with one space between them"
	}
	f.length, f.coding, f.begun, f.state = -1, false, true, headerLine
	f.old = bytes.HasSuffix(line, []byte(" HTTP/1.0"))
	return ""
}

func (f *framing) header(line []byte) string {
	name, value, fault := field(line)
	if fault != "" {
		return fault
	}
	switch {
	case is(name, "Content-Length"):
		n, err := strconv.ParseUint(string(value), 10, 63)
		if err != nil || value[0] == '+' {
			return "Content-Length is not a number"
		}
		if f.length >= 0 {
			return "more than one Content-Length"
		}
		f.length = int64(n)
	case is(name, "Transfer-Encoding"):
		if f.coding || !is(value, "chunked") {
			return "a Transfer-Encoding other than chunked"
		}
		if f.old { // RFC 9112, 6.1: HTTP/1.0 has none
			return "Transfer-Encoding in HTTP/1.0"
		}
		f.coding = true
	}
	if f.coding && f.length >= 0 {
		return "Content-Length beside Transfer-Encoding"
	}
	return ""
}

func (f *framing) headersEnd() string {
	switch {
	case f.coding:
		f.state = chunkSize
	case f.length > 0:
		f.state, f.left = body, f.length
	default:
		f.next()
	}
	return ""
}

func (f *framing) chunk(line []byte) string {
	size, _, _ := strings.Cut(string(line), ";")
	if size = strings.TrimRight(size, " \t"); size == "" || len(size) > 15 || strings.Trim(size, "0123456789abcdefABCDEF") != "" {
		return "the size of a chunk is not a hexadecimal number"
	}
	n, _ := strconv.ParseInt(size, 16, 64)
	if f.left = n; n == 0 {
		f.state = trailer
	} else {
		f.state = chunkData
	}
	return ""
}

// is compares whatever the letters' case.
func is(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }

// token has the characters that a header's name may have (RFC 9110, 5.6.2).
var token = func() (is [256]bool) {
	for c := byte('!'); c < 0x7f; c++ {
		is[c] = strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) < 0
	}
	return is
}()

// field splits a header line (RFC 9110, 5.5 and 5.6.2; RFC 9112, 5.1 and 5.2).
func field(line []byte) (name, value []byte, fault string) {
	if line[0] == ' ' || line[0] == '\t' {
		return nil, nil, "a header line goes on in the next"
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 1 {
		return nil, nil, "a header line without a name and a colon"
	}
	for _, c := range line[:colon] {
		if !token[c] {
			return nil, nil, "a header name with a character that none may have"
		}
	}
	return line[:colon], bytes.Trim(line[colon+1:], " \t"), ""
}
