package httproute

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// Filters change requests and responses. The zero Filters change nothing.
type Filters struct {
	Request, Response Headers
	Redirect          *Redirect
	Rewrite           *Rewrite
	Mirrors           []Mirror
	CORS              *CORS
}

// Headers is a change of headers; names are in their canonical form.
type Headers struct {
	Set, Add []Header
	Remove   []string
}

// Header is one header.
type Header struct{ Name, Value string }

// Apply changes headers: it sets, adds, then removes.
func (c *Headers) Apply(h http.Header) {
	for _, s := range c.Set {
		h[s.Name] = []string{s.Value}
	}
	for _, a := range c.Add {
		h[a.Name] = append(h[a.Name], a.Value)
	}
	for _, name := range c.Remove {
		delete(h, name)
	}
}

// Host returns what the change makes of the header Host, which net/http keeps apart, and whether it does.
func (c *Headers) Host() (string, bool) {
	for _, s := range c.Set {
		if s.Name == "Host" {
			return s.Value, true
		}
	}
	return "", false
}

// Mirror has requests sent to another backend too, whose responses nobody sees.
type Mirror struct {
	Target Target

	// Numerator of Denominator requests are mirrored.
	Numerator, Denominator int
}

// Draw says whether a request is mirrored; n is such as rand.IntN.
func (m *Mirror) Draw(n func(int) int) bool {
	return m.Numerator >= m.Denominator || m.Numerator > 0 && n(m.Denominator) < m.Numerator
}

// Path is a change of a path.
type Path struct {
	Full   *string // the new path
	Prefix *string // what takes the place of the prefix that matched
}

// Apply returns the changed path, decoded and as it is encoded. The prefix is that of the Match. A path of nil stays.
func (p *Path) Apply(u *url.URL, prefix string) (path, raw string) {
	switch {
	case p == nil:
		return u.Path, u.EscapedPath()
	case p.Full != nil:
		return decoded(*p.Full)
	}
	rest := after(u.EscapedPath(), len(prefix))
	raw = strings.TrimSuffix(*p.Prefix, "/")
	if rest = strings.TrimPrefix(rest, "/"); rest != "" || strings.HasSuffix(u.Path, "/") && len(u.Path) > len(prefix) {
		raw += "/" + rest
	}
	if raw == "" {
		raw = "/"
	}
	return decoded(raw)
}

func decoded(raw string) (string, string) {
	if raw == "" {
		raw = "/"
	}
	path, err := url.PathUnescape(raw)
	if err != nil { // a percent sign that encodes nothing stands for itself
		return raw, (&url.URL{Path: raw}).EscapedPath()
	}
	return path, raw
}

// after returns what is behind the first n bytes of an encoded path, as they are when decoded.
func after(escaped string, n int) string {
	at := 0
	for ; n > 0 && at < len(escaped); n-- {
		if escaped[at] == '%' {
			at += 2
		}
		at++
	}
	return escaped[min(at, len(escaped)):]
}

// Rewrite changes where a request seems to go, before it is sent.
type Rewrite struct {
	Hostname string // empty: as it is
	Path     *Path
}

// Redirect answers a request with another place.
type Redirect struct {
	Scheme, Hostname string // empty: the request's
	Port             uint16 // 0: the scheme's, or without a scheme the listener's
	Path             *Path
	Code             int
}

// Location returns where a request is sent. The scheme and port are those under which the client reached the listener.
func (d *Redirect) Location(r *http.Request, scheme string, port uint16, prefix string) string {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if d.Hostname != "" {
		host = d.Hostname
	}
	if d.Scheme != "" {
		scheme = d.Scheme
		switch scheme {
		case "http":
			port = 80
		case "https":
			port = 443
		}
	}
	if d.Port != 0 {
		port = d.Port
	}
	if scheme == "http" && port == 80 || scheme == "https" && port == 443 || port == 0 {
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
	} else {
		host = net.JoinHostPort(host, strconv.Itoa(int(port)))
	}
	path, raw := d.Path.Apply(r.URL, prefix)
	return (&url.URL{Scheme: scheme, Host: host, Path: path, RawPath: raw, RawQuery: r.URL.RawQuery}).String()
}
