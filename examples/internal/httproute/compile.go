package httproute

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// FromHTTP compiles an HTTPRoute.
func FromHTTP(route *gatewayv1.HTTPRoute, resolve Resolver) *Route {
	c := newCompiler("HTTPRoute", &route.ObjectMeta, route.Spec.Hostnames, resolve)
	for i := range route.Spec.Rules {
		r := &route.Spec.Rules[i]
		c.rule(i, r.Name, func(rule *Rule) {
			c.httpMatches(rule, r.Matches)
			rule.Filters = c.filters(".filters", r.Filters, rule)
			for j := range r.BackendRefs {
				b := &r.BackendRefs[j]
				field := fmt.Sprintf(".backendRefs[%d]", j)
				c.backend(rule, field, &b.BackendRef, c.filters(field+".filters", b.Filters, rule))
			}
			c.timeouts(rule, r.Timeouts)
			c.retry(rule, r.Retry)
		})
	}
	return c.route
}

// FromGRPC compiles a GRPCRoute. Its methods become paths (https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md).
func FromGRPC(route *gatewayv1.GRPCRoute, resolve Resolver) *Route {
	c := newCompiler("GRPCRoute", &route.ObjectMeta, route.Spec.Hostnames, resolve)
	for i := range route.Spec.Rules {
		r := &route.Spec.Rules[i]
		c.rule(i, r.Name, func(rule *Rule) {
			c.grpcMatches(rule, r.Matches)
			rule.Filters = c.filters(".filters", httpFilters(r.Filters), rule)
			for j := range r.BackendRefs {
				b := &r.BackendRefs[j]
				field := fmt.Sprintf(".backendRefs[%d]", j)
				c.backend(rule, field, &b.BackendRef, c.filters(field+".filters", httpFilters(b.Filters), rule))
			}
		})
	}
	return c.route
}

func httpFilters(list []gatewayv1.GRPCRouteFilter) []gatewayv1.HTTPRouteFilter {
	var same []gatewayv1.HTTPRouteFilter
	for _, f := range list {
		same = append(same, gatewayv1.HTTPRouteFilter{
			Type: gatewayv1.HTTPRouteFilterType(f.Type), RequestHeaderModifier: f.RequestHeaderModifier, ResponseHeaderModifier: f.ResponseHeaderModifier,
			RequestMirror: f.RequestMirror, ExtensionRef: f.ExtensionRef,
		})
	}
	return same
}

type compiler struct {
	route   *Route
	resolve Resolver
	field   string  // of the rule
	wrong   []Fault // with the rule
}

func newCompiler(kind string, meta *metav1.ObjectMeta, hostnames []gatewayv1.Hostname, resolve Resolver) *compiler {
	r := &Route{Kind: kind, Namespace: meta.Namespace, Name: meta.Name, Created: meta.CreationTimestamp.Time}
	for _, h := range hostnames {
		r.Hostnames = append(r.Hostnames, strings.ToLower(string(h)))
	}
	return &compiler{route: r, resolve: resolve}
}

// rule compiles one, and keeps it if there is nothing wrong with it.
func (c *compiler) rule(i int, name *gatewayv1.SectionName, compile func(*Rule)) {
	c.field, c.wrong = fmt.Sprintf("spec.rules[%d]", i), nil
	rule := &Rule{Origin: fmt.Sprintf("%s: %s", c.route, c.field)}
	if name != nil {
		rule.Name = string(*name)
	}
	compile(rule)
	if len(c.wrong) > 0 {
		c.route.Left = append(c.route.Left, c.wrong...)
		return
	}
	for i := range rule.Backends {
		rule.sum += rule.Backends[i].Weight
	}
	c.route.Rules = append(c.route.Rules, rule)
}

func (c *compiler) fault(field, format string, args ...any) {
	c.wrong = append(c.wrong, Fault{c.field + field, gatewayv1.RouteReasonUnsupportedValue, fmt.Sprintf(format, args...)})
}

func (c *compiler) incompatible(field, message string) {
	c.wrong = append(c.wrong, Fault{c.field + field, gatewayv1.RouteReasonIncompatibleFilters, message})
}

// target resolves a reference; what leads nowhere is remembered with its field.
func (c *compiler) target(field string, ref *gatewayv1.BackendObjectReference) (Target, error) {
	t, err := c.resolve(From{Kind: c.route.Kind, Namespace: c.route.Namespace}, ref)
	if err == nil {
		return t, nil
	}
	f := Fault{Reason: gatewayv1.RouteReasonBackendNotFound, Message: err.Error()}
	if of := (Fault{}); errors.As(err, &of) {
		f = of
	}
	f.Field = c.field + field
	c.route.Unresolved = append(c.route.Unresolved, f)
	return Target{}, f
}

func (c *compiler) backend(rule *Rule, field string, ref *gatewayv1.BackendRef, filters Filters) {
	weight := 1
	if ref.Weight != nil {
		weight = int(*ref.Weight)
	}
	if weight < 0 || weight > 1_000_000 {
		c.fault(field+".weight", "%d is not from 0 to 1000000", weight)
		return
	}
	if filters.Redirect != nil || filters.Rewrite != nil || filters.CORS != nil {
		c.incompatible(field+".filters", "RequestRedirect, URLRewrite and CORS are filters of a rule, not of a backend")
	}
	target, err := c.target(field, &ref.BackendObjectReference)
	rule.Backends = append(rule.Backends, Backend{Target: target, Weight: weight, Filters: filters, Err: err})
}

func (c *compiler) timeouts(rule *Rule, t *gatewayv1.HTTPRouteTimeouts) {
	if t == nil {
		return
	}
	rule.Timeouts.Request = c.duration(".timeouts.request", t.Request, 0)
	rule.Timeouts.BackendRequest = c.duration(".timeouts.backendRequest", t.BackendRequest, 0)
	if rule.Timeouts.Request > 0 && rule.Timeouts.BackendRequest > rule.Timeouts.Request {
		c.fault(".timeouts.backendRequest", "%s is longer than timeouts.request, %s", *t.BackendRequest, *t.Request)
	}
}

func (c *compiler) retry(rule *Rule, r *gatewayv1.HTTPRouteRetry) {
	if r == nil {
		return
	}
	retry := &Retry{Attempts: DefaultAttempts, Backoff: c.duration(".retry.backoff", r.Backoff, DefaultBackoff)}
	for i, code := range r.Codes {
		if code < 400 || code > 599 {
			c.fault(fmt.Sprintf(".retry.codes[%d]", i), "%d is not from 400 to 599", code)
		}
		retry.Codes = append(retry.Codes, int(code))
	}
	if r.Attempts != nil {
		retry.Attempts = *r.Attempts
	}
	rule.Retry = retry
}

// duration is one of GEP-2257: at most four numbers of five digits with their units.
var duration = regexp.MustCompile(`^([0-9]{1,5}(h|m|s|ms)){1,4}$`)

func (c *compiler) duration(field string, d *gatewayv1.Duration, none time.Duration) time.Duration {
	if d == nil {
		return none
	}
	value, err := time.ParseDuration(string(*d))
	if err != nil || !duration.MatchString(string(*d)) {
		c.fault(field, "%q is not a duration such as 1m30s or 250ms", *d)
		return none
	}
	return value
}

// everything is what a rule without matches matches.
func (rule *Rule) everything() { rule.matches = []match{{kind: prefix, length: 1}} }

func (c *compiler) httpMatches(rule *Rule, list []gatewayv1.HTTPRouteMatch) {
	if len(list) == 0 {
		rule.everything()
	}
	for i := range list {
		m := &list[i]
		field := fmt.Sprintf(".matches[%d]", i)
		compiled := c.path(field+".path", m.Path)
		if m.Method != nil {
			compiled.method = string(*m.Method)
		}
		for j, h := range m.Headers {
			regex := h.Type != nil && *h.Type == gatewayv1.HeaderMatchRegularExpression
			if !regex && h.Type != nil && *h.Type != gatewayv1.HeaderMatchExact {
				c.fault(fmt.Sprintf("%s.headers[%d].type", field, j), "%q is neither Exact nor RegularExpression", *h.Type)
			}
			compiled.headers = c.value(fmt.Sprintf("%s.headers[%d]", field, j), compiled.headers, http.CanonicalHeaderKey(string(h.Name)), h.Value, regex)
		}
		for j, q := range m.QueryParams {
			regex := q.Type != nil && *q.Type == gatewayv1.QueryParamMatchRegularExpression
			if !regex && q.Type != nil && *q.Type != gatewayv1.QueryParamMatchExact {
				c.fault(fmt.Sprintf("%s.queryParams[%d].type", field, j), "%q is neither Exact nor RegularExpression", *q.Type)
			}
			compiled.queries = c.value(fmt.Sprintf("%s.queryParams[%d]", field, j), compiled.queries, string(q.Name), q.Value, regex)
		}
		rule.matches = append(rule.matches, compiled)
	}
}

// value adds a condition unless there is one of that name already: only the first counts.
func (c *compiler) value(field string, to []value, name, text string, regex bool) []value {
	if slices.ContainsFunc(to, func(v value) bool { return v.name == name }) {
		return to
	}
	v := value{name: name, exact: text}
	if regex {
		v.re = c.regexp(field+".value", text)
	}
	return append(to, v)
}

// regexp compiles an expression that has to match the whole text.
func (c *compiler) regexp(field, text string) *regexp.Regexp {
	_, err := regexp.Compile(text) // by itself: brackets around a)|(b would make it whole
	var re *regexp.Regexp
	if err == nil {
		re, err = regexp.Compile(`^(?s:` + text + `)$`) // not so \Qa, which has no end
	}
	if err != nil {
		c.fault(field, "%v", err)
	}
	return re
}

func (c *compiler) path(field string, p *gatewayv1.HTTPPathMatch) match {
	typ, text := gatewayv1.PathMatchPathPrefix, "/"
	if p != nil && p.Type != nil {
		typ = *p.Type
	}
	if p != nil && p.Value != nil {
		text = *p.Value
	}
	m := match{length: len(text), path: text}
	if typ == gatewayv1.PathMatchRegularExpression {
		m.kind, m.re = pattern, c.regexp(field+".value", text)
		return m
	}
	decoded, err := url.PathUnescape(text)
	if err != nil || !strings.HasPrefix(text, "/") {
		c.fault(field+".value", "%q is not a path", text)
	}
	switch typ {
	case gatewayv1.PathMatchExact:
		m.kind, m.path = exact, decoded
	case gatewayv1.PathMatchPathPrefix:
		m.kind, m.path = prefix, strings.TrimSuffix(decoded, "/")
	default:
		c.fault(field+".type", "%q is not one of Exact, PathPrefix and RegularExpression", typ)
	}
	return m
}
