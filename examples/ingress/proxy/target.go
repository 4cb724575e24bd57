package proxy

import (
	"net/http"
	"net/url"
	"path"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// malformed names what is wrong with a request that cannot be written as one of HTTP/1 which every reader understands alike. The
// server has refused most of it already; HTTP/2 lets more through, as a space means nothing there.
func malformed(r *http.Request) string {
	switch {
	case !httpguts.ValidHeaderFieldName(r.Method): // both are tokens
		return "the method is no token"
	case strings.IndexFunc(r.URL.RawQuery, func(c rune) bool { return c <= ' ' || c == 0x7f }) >= 0:
		return "the query has a space or a control character in it"
	case !validHost(r.Host):
		return "malformed Host header"
	}
	return ""
}

// validHost says whether a host can be one (RFC 9110, 7.2): a name or an address, and perhaps the number of a port.
func validHost(host string) bool {
	if host == "" {
		return true
	}
	name, port, found := strings.Cut(host, ":")
	if host[0] == '[' {
		end := strings.IndexByte(host, ']')
		if end < 0 || end+1 < len(host) && host[end+1] != ':' {
			return false
		}
		name, port, found = host[:end], strings.TrimPrefix(host[end+1:], ":"), true
	}
	return name != "" && (!found || strings.Trim(port, "0123456789") == "") && strings.IndexFunc(name, func(c rune) bool {
		return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"/<>?@\^`+"`{|}#,", c)
	}) < 0
}

// clean resolves . and .. and empty elements of the path. It is false for one that would lead out of the root. A slash that is
// written as %2F stays so, unless there are . or .. as well.
func clean(r *http.Request) bool {
	p := r.URL.Path
	if p == "" || p == "*" {
		return p == ""
	}
	if p[0] != '/' {
		return false
	}
	if !strings.Contains(p, "//") && !strings.Contains(p, "/.") {
		return true
	}
	escaped := r.URL.EscapedPath()
	if mixed(p, escaped) {
		cleaned, ok := resolve(p, func(element string) string { return element })
		r.URL.Path, r.URL.RawPath = cleaned, ""
		return ok
	}
	cleaned, ok := resolve(escaped, unescape)
	if ok && cleaned != escaped {
		r.URL.Path, r.URL.RawPath = unescape(cleaned), cleaned
	}
	return ok
}

// unescape is for parts of what could be unescaped before.
func unescape(escaped string) string {
	text, _ := url.PathUnescape(escaped)
	return text
}

// mixed says whether a path has . or .. among its elements, and slashes that do not look like them: what those are is then not
// left to the next reader.
func mixed(path, escaped string) bool {
	if !strings.Contains(escaped, "%2F") && !strings.Contains(escaped, "%2f") {
		return false
	}
	for element := range strings.SplitSeq(path, "/") {
		if element == "." || element == ".." {
			return true
		}
	}
	return false
}

// resolve resolves the elements of a path; meaning is what one of them stands for.
func resolve(p string, meaning func(string) string) (cleaned string, ok bool) {
	elements := strings.Split(p[1:], "/")
	depth, last := 0, ""
	for i, element := range elements {
		switch last = meaning(element); last {
		case "..":
			elements[i] = last
			depth--
		case ".", "":
			elements[i] = last
		default:
			depth++
		}
		if depth < 0 {
			return "", false
		}
	}
	cleaned = path.Clean("/" + strings.Join(elements, "/"))
	if cleaned != "/" && (last == "" || last == "." || last == "..") {
		cleaned += "/"
	}
	return cleaned, true
}
