package l7

import (
	"net/http"
	"strings"
)

// hopByHop are headers of one connection (RFC 9110, 7.6.1). Trailer, Transfer-Encoding and Content-Length net/http takes
// care of. Proxy-Authorization and its like are none of ours: nobody knows that this proxy is there.
var hopByHop = []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Upgrade", "Http2-Settings"}

// clean removes the headers of a connection; "TE: trailers" and the switch to a WebSocket stay.
func clean(h http.Header, webSocket bool) {
	teTrailers := false
	if te := h["Te"]; len(te) > 0 {
		teTrailers = hasToken(te, "trailers")
	}
	for _, list := range h["Connection"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name != "" {
				delete(h, http.CanonicalHeaderKey(name))
			}
		}
	}
	for _, name := range hopByHop {
		delete(h, name)
	}
	if teTrailers {
		h["Te"] = []string{"trailers"}
	}
	if webSocket {
		h["Connection"], h["Upgrade"] = []string{"Upgrade"}, []string{"websocket"}
	}
}

func hasToken(lists []string, token string) bool {
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			if strings.EqualFold(strings.TrimSpace(name), token) {
				return true
			}
		}
	}
	return false
}

// asksWebSocket says whether a request wants to become a WebSocket (RFC 6455, 4.1).
func asksWebSocket(r *http.Request) bool {
	return r.ProtoMajor == 1 && len(r.Header["Upgrade"]) == 1 && strings.EqualFold(r.Header["Upgrade"][0], "websocket") && hasToken(r.Header["Connection"], "upgrade")
}

func isGRPC(h http.Header) bool {
	t := h["Content-Type"]
	return len(t) == 1 && strings.HasPrefix(t[0], "application/grpc") && (len(t[0]) == len("application/grpc") || strings.IndexByte("+;", t[0][len("application/grpc")]) >= 0)
}

// resolveDots removes the dot segments of a path (RFC 3986, 5.2.4), encoded ones too. Other readers do the same, perhaps
// behind those who decide by the path.
func resolveDots(r *http.Request) {
	if !strings.Contains(r.URL.Path, "/.") {
		return
	}
	segments := strings.Split(r.URL.EscapedPath(), "/")
	kept, changed := segments[:0:0], false
	for i, s := range segments {
		last := i == len(segments)-1
		switch dots(s) {
		case 0:
			kept = append(kept, s)
			continue
		case 2:
			if len(kept) > 1 {
				kept = kept[:len(kept)-1]
			}
		}
		if changed = true; last {
			kept = append(kept, "")
		}
	}
	if !changed {
		return
	}
	setPath(r, strings.Join(kept, "/"))
}

// dots returns 1 for ".", 2 for "..", and else 0.
func dots(segment string) int {
	if len(segment) > len("%2e%2e") {
		return 0
	}
	switch strings.ReplaceAll(strings.ReplaceAll(segment, "%2e", "."), "%2E", ".") {
	case ".":
		return 1
	case "..":
		return 2
	}
	return 0
}

// setPath gives a request another path, as it is encoded.
func setPath(r *http.Request, escaped string) {
	u, err := r.URL.Parse(escapedPath(escaped))
	if err != nil {
		return
	}
	r.URL.Path, r.URL.RawPath = u.Path, u.RawPath
	r.RequestURI = target(r)
}

// escapedPath keeps a path that begins with two slashes from being read as a host.
func escapedPath(p string) string {
	if strings.HasPrefix(p, "//") {
		return "//x" + p // an authority that nobody looks at
	}
	return p
}

// target is what stands in the request line: only with an authority if it came with one.
func target(r *http.Request) string {
	if r.ProtoMajor == 1 && !strings.HasPrefix(r.RequestURI, "/") && r.URL.IsAbs() {
		return r.URL.Scheme + "://" + r.Host + r.URL.RequestURI()
	}
	return r.URL.RequestURI()
}
