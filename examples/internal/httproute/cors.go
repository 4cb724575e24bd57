package httproute

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// CORS says which web pages may read responses (https://fetch.spec.whatwg.org/#http-cors-protocol).
type CORS struct {
	Origins       []string // scheme://host[:port], where the host may begin with or be a *; or only a *
	Credentials   bool
	Methods       []string // or only a *
	RequestHeader []string // or only a *
	Expose        []string // or only a *
	MaxAge        int      // seconds
}

// Preflight says whether a request only asks what it might do.
func (c *CORS) Preflight(r *http.Request) bool {
	return r.Method == http.MethodOptions && r.Header.Get("Origin") != "" && r.Header.Get("Access-Control-Request-Method") != ""
}

// AnswerPreflight sets the headers of the answer to a preflight request, whose code is 204. A page of a foreign origin gets none.
func (c *CORS) AnswerPreflight(h http.Header, r *http.Request) {
	h.Add("Vary", "Origin")
	if !c.origin(h, r.Header.Get("Origin")) {
		return
	}
	listed := func(name string, list []string, asked string) {
		switch {
		case slices.Contains(list, "*") && c.Credentials: // a star means a star then
			if asked != "" {
				h.Set(name, asked)
			}
		case len(list) > 0:
			h.Set(name, strings.Join(list, ", "))
		}
	}
	listed("Access-Control-Allow-Methods", c.Methods, r.Header.Get("Access-Control-Request-Method"))
	listed("Access-Control-Allow-Headers", c.RequestHeader, strings.Join(r.Header.Values("Access-Control-Request-Headers"), ", "))
	h.Set("Access-Control-Max-Age", strconv.Itoa(c.MaxAge))
}

// Apply sets the headers of a response. Those that the backend set itself count no more.
func (c *CORS) Apply(h http.Header, r *http.Request) {
	for name := range h {
		if strings.HasPrefix(name, "Access-Control-") {
			delete(h, name)
		}
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return
	}
	h.Add("Vary", "Origin")
	c.origin(h, origin)
}

// origin sets what every answer to a page of an allowed origin has.
func (c *CORS) origin(h http.Header, origin string) bool {
	if !slices.ContainsFunc(c.Origins, func(pattern string) bool { return originMatches(pattern, origin) }) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if c.Credentials {
		h.Set("Access-Control-Allow-Credentials", "true")
	}
	if expose := slices.DeleteFunc(slices.Clone(c.Expose), func(name string) bool { return name == "*" && c.Credentials }); len(expose) > 0 {
		h.Set("Access-Control-Expose-Headers", strings.Join(expose, ", "))
	}
	return true
}

func originMatches(pattern, origin string) bool {
	if pattern == "*" {
		return true
	}
	scheme, host, port := splitOrigin(pattern)
	s, h, p := splitOrigin(origin)
	if h == "" || scheme != s || port != p {
		return false
	}
	if end, ok := strings.CutPrefix(host, "*"); ok {
		return len(h) > len(end) && strings.HasSuffix(h, end)
	}
	return host == h
}

func splitOrigin(origin string) (scheme, host, port string) {
	scheme, rest, ok := strings.Cut(strings.ToLower(origin), "://")
	if !ok || strings.ContainsAny(rest, "/?#@") {
		return scheme, "", ""
	}
	host, port = (&url.URL{Host: rest}).Hostname(), (&url.URL{Host: rest}).Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[scheme]
	}
	return scheme, host, port
}
