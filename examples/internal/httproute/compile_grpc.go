package httproute

import (
	"fmt"
	"net/http"
	"regexp"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

func (c *compiler) grpcMatches(rule *Rule, list []gatewayv1.GRPCRouteMatch) {
	if len(list) == 0 {
		rule.everything()
	}
	for i := range list {
		m := &list[i]
		field := fmt.Sprintf(".matches[%d]", i)
		compiled := c.method(field+".method", m.Method)
		for j, h := range m.Headers {
			regex := h.Type != nil && *h.Type == gatewayv1.GRPCHeaderMatchRegularExpression
			if !regex && h.Type != nil && *h.Type != gatewayv1.GRPCHeaderMatchExact {
				c.fault(fmt.Sprintf("%s.headers[%d].type", field, j), "%q is neither Exact nor RegularExpression", *h.Type)
			}
			compiled.headers = c.value(fmt.Sprintf("%s.headers[%d]", field, j), compiled.headers, http.CanonicalHeaderKey(string(h.Name)), h.Value, regex)
		}
		rule.matches = append(rule.matches, compiled)
	}
}

// method makes a path of a gRPC service and method: both exact is an exact path, a service alone a prefix, a method alone a suffix.
func (c *compiler) method(field string, m *gatewayv1.GRPCMethodMatch) match {
	all := match{kind: prefix, length: 1}
	if m == nil {
		return all
	}
	service, method := "", ""
	if m.Service != nil {
		service = *m.Service
	}
	if m.Method != nil {
		method = *m.Method
	}
	length := len(service)<<16 | len(method) // the characters of the service count first
	if m.Type != nil && *m.Type == gatewayv1.GRPCMethodMatchRegularExpression {
		return match{kind: pattern, length: length, re: c.methodRegexp(field, service, method)}
	}
	if m.Type != nil && *m.Type != gatewayv1.GRPCMethodMatchExact {
		c.fault(field+".type", "%q is neither Exact nor RegularExpression", *m.Type)
	}
	switch {
	case service != "" && method != "":
		return match{kind: exact, length: length, path: "/" + service + "/" + method}
	case service != "":
		return match{kind: prefix, length: length, path: "/" + service}
	case method != "":
		return match{kind: suffix, length: length, path: "/" + method}
	}
	return all
}

func (c *compiler) methodRegexp(field, service, method string) *regexp.Regexp {
	part := func(name, text string) string {
		if text == "" {
			return "[^/]+"
		}
		c.regexp(field+"."+name, text)
		return "(?:" + text + ")"
	}
	re, _ := regexp.Compile("^/" + part("service", service) + "/" + part("method", method) + "$") // its parts are checked
	return re
}
