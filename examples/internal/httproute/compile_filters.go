package httproute

import (
	"fmt"
	"net/http"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// filters compiles the filters of a rule or of a backend of it.
func (c *compiler) filters(field string, list []gatewayv1.HTTPRouteFilter, rule *Rule) Filters {
	var to Filters
	seen := map[gatewayv1.HTTPRouteFilterType]bool{}
	for i := range list {
		f := &list[i]
		field := fmt.Sprintf("%s[%d]", field, i)
		if seen[f.Type] && f.Type != gatewayv1.HTTPRouteFilterRequestMirror {
			c.incompatible(field, fmt.Sprintf("%s is there twice", f.Type))
		}
		seen[f.Type] = true
		c.filter(&to, field, f, rule)
	}
	if to.Redirect != nil && to.Rewrite != nil {
		c.incompatible(field, "RequestRedirect beside URLRewrite")
	}
	return to
}

func (c *compiler) filter(to *Filters, field string, f *gatewayv1.HTTPRouteFilter, rule *Rule) {
	missing := func(absent bool, name string) bool {
		if absent {
			c.fault(field+"."+name, "is missing")
		}
		return absent
	}
	switch f.Type {
	case gatewayv1.HTTPRouteFilterRequestHeaderModifier:
		if !missing(f.RequestHeaderModifier == nil, "requestHeaderModifier") {
			to.Request = headers(f.RequestHeaderModifier)
		}
	case gatewayv1.HTTPRouteFilterResponseHeaderModifier:
		if !missing(f.ResponseHeaderModifier == nil, "responseHeaderModifier") {
			to.Response = headers(f.ResponseHeaderModifier)
		}
	case gatewayv1.HTTPRouteFilterRequestRedirect:
		if !missing(f.RequestRedirect == nil, "requestRedirect") {
			to.Redirect = c.redirect(field+".requestRedirect", f.RequestRedirect, rule)
		}
	case gatewayv1.HTTPRouteFilterURLRewrite:
		if missing(f.URLRewrite == nil, "urlRewrite") {
			return
		}
		to.Rewrite = &Rewrite{Path: c.pathModifier(field+".urlRewrite.path", f.URLRewrite.Path, rule)}
		if f.URLRewrite.Hostname != nil {
			to.Rewrite.Hostname = string(*f.URLRewrite.Hostname)
		}
	case gatewayv1.HTTPRouteFilterRequestMirror:
		if !missing(f.RequestMirror == nil, "requestMirror") {
			c.mirror(to, field+".requestMirror", f.RequestMirror)
		}
	case gatewayv1.HTTPRouteFilterCORS:
		if !missing(f.CORS == nil, "cors") {
			to.CORS = cors(f.CORS)
		}
	case gatewayv1.HTTPRouteFilterExtensionRef:
		unknown := Fault{c.field + field + ".extensionRef", gatewayv1.RouteReasonInvalidKind, "no kind of filter is known here"}
		c.route.Unresolved, rule.Err = append(c.route.Unresolved, unknown), unknown
	default:
		c.fault(field+".type", "%q is not supported", f.Type)
	}
}

func headers(f *gatewayv1.HTTPHeaderFilter) Headers {
	list := func(from []gatewayv1.HTTPHeader) []Header {
		var to []Header
		for _, h := range from {
			name := http.CanonicalHeaderKey(string(h.Name))
			if !slices.ContainsFunc(to, func(h Header) bool { return h.Name == name }) { // only the first counts
				to = append(to, Header{name, h.Value})
			}
		}
		return to
	}
	h := Headers{Set: list(f.Set), Add: list(f.Add)}
	for _, name := range f.Remove {
		h.Remove = append(h.Remove, http.CanonicalHeaderKey(name))
	}
	return h
}

func (c *compiler) redirect(field string, f *gatewayv1.HTTPRequestRedirectFilter, rule *Rule) *Redirect {
	d := &Redirect{Code: http.StatusFound, Path: c.pathModifier(field+".path", f.Path, rule)}
	if f.Scheme != nil {
		if d.Scheme = *f.Scheme; d.Scheme != "http" && d.Scheme != "https" {
			c.fault(field+".scheme", "%q is neither http nor https", d.Scheme)
		}
	}
	if f.Hostname != nil {
		d.Hostname = string(*f.Hostname)
	}
	if f.Port != nil {
		if *f.Port < 1 || *f.Port > 65535 {
			c.fault(field+".port", "%d is not from 1 to 65535", *f.Port)
		}
		d.Port = uint16(*f.Port)
	}
	if f.StatusCode != nil {
		if d.Code = *f.StatusCode; !slices.Contains([]int{301, 302, 303, 307, 308}, d.Code) {
			c.fault(field+".statusCode", "%d is not one of 301, 302, 303, 307 and 308", d.Code)
		}
	}
	return d
}

func (c *compiler) pathModifier(field string, p *gatewayv1.HTTPPathModifier, rule *Rule) *Path {
	if p == nil {
		return nil
	}
	switch {
	case p.Type == gatewayv1.FullPathHTTPPathModifier && p.ReplaceFullPath != nil:
		return &Path{Full: p.ReplaceFullPath}
	case p.Type == gatewayv1.PrefixMatchHTTPPathModifier && p.ReplacePrefixMatch != nil:
		if slices.ContainsFunc(rule.matches, func(m match) bool { return m.kind != prefix }) {
			c.incompatible(field, "ReplacePrefixMatch needs the path of every match of the rule to be a PathPrefix")
		}
		return &Path{Prefix: p.ReplacePrefixMatch}
	case p.Type != gatewayv1.FullPathHTTPPathModifier && p.Type != gatewayv1.PrefixMatchHTTPPathModifier:
		c.fault(field+".type", "%q is neither ReplaceFullPath nor ReplacePrefixMatch", p.Type)
	default:
		c.fault(field, "the value for %s is missing", p.Type)
	}
	return nil
}

// mirror adds one; if its reference leads nowhere it is left out.
func (c *compiler) mirror(to *Filters, field string, f *gatewayv1.HTTPRequestMirrorFilter) {
	m := Mirror{Numerator: 100, Denominator: 100}
	switch {
	case f.Percent != nil && f.Fraction != nil:
		c.fault(field, "percent beside fraction")
	case f.Percent != nil:
		m.Numerator = int(*f.Percent)
	case f.Fraction != nil:
		m.Numerator = int(f.Fraction.Numerator)
		if f.Fraction.Denominator != nil {
			m.Denominator = int(*f.Fraction.Denominator)
		}
	}
	if m.Denominator < 1 || m.Numerator < 0 || m.Numerator > m.Denominator {
		c.fault(field, "%d of %d requests cannot be", m.Numerator, m.Denominator)
	}
	target, err := c.target(field+".backendRef", &f.BackendRef)
	if err != nil {
		return
	}
	m.Target = target
	to.Mirrors = append(to.Mirrors, m)
}

func cors(f *gatewayv1.HTTPCORSFilter) *CORS {
	c := &CORS{MaxAge: 5, Credentials: f.AllowCredentials != nil && *f.AllowCredentials}
	if f.MaxAge > 0 {
		c.MaxAge = int(f.MaxAge)
	}
	for _, o := range f.AllowOrigins {
		c.Origins = append(c.Origins, string(o))
	}
	for _, m := range f.AllowMethods {
		c.Methods = append(c.Methods, string(m))
	}
	for _, h := range f.AllowHeaders {
		c.RequestHeader = append(c.RequestHeader, string(h))
	}
	for _, h := range f.ExposeHeaders {
		c.Expose = append(c.Expose, string(h))
	}
	return c
}
