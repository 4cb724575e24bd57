package httproute

import (
	"fmt"
	"net/http"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Route is a compiled HTTPRoute or GRPCRoute.
type Route struct {
	Kind            string // HTTPRoute or GRPCRoute
	Namespace, Name string
	Created         time.Time

	// Hostnames are those of the object, in lower case: a name, or *.name for all names below it. None: all.
	Hostnames []string

	// Rules are those that can be served.
	Rules []*Rule

	// Left are the rules that cannot be served. If there are no others, the route is not to be accepted.
	Left []Fault

	// Unresolved are references that lead nowhere (the condition ResolvedRefs). Requests for them are answered with 500.
	Unresolved []Fault
}

func (r *Route) String() string { return fmt.Sprintf("%s %s/%s", r.Kind, r.Namespace, r.Name) }

// Accepted says whether there is anything to serve. A route without any rule is accepted: it matches nothing.
func (r *Route) Accepted() bool { return len(r.Rules) > 0 || len(r.Left) == 0 }

// Fault is what is wrong with a field, as a condition tells it.
type Fault struct {
	Field   string // such as spec.rules[0].filters[1]
	Reason  gatewayv1.RouteConditionReason
	Message string
}

func (f Fault) Error() string { return f.Field + ": " + f.Message }

// Rule is what is done with requests that match one of its matches.
type Rule struct {
	Origin string // the object and the field, such as HTTPRoute shop/web: spec.rules[0]
	Name   string // of the rule, if it has one
	Err    error  // a filter cannot be resolved: requests are answered with 500 and not passed without it

	Filters  Filters
	Backends []Backend
	Timeouts Timeouts
	Retry    *Retry // nil: none

	matches []match
	sum     int // of the weights
}

// Backend is where a share of the requests of a rule goes.
type Backend struct {
	Target  Target
	Weight  int     // against the other backends' of the rule; 0: no requests
	Filters Filters // after those of the rule
	Err     error   // the reference leads nowhere: 500
}

// Target is the port of a Service.
type Target struct {
	Namespace, Service string
	Port               uint16
}

func (t Target) String() string { return fmt.Sprintf("%s/%s:%d", t.Namespace, t.Service, t.Port) }

// Timeouts are how long things may take. 0: as long as they do.
type Timeouts struct {
	Request        time.Duration // all of it, with retries
	BackendRequest time.Duration // each try
}

// Retry says when a request is sent once more: after one of the status codes, after a try that took longer than
// BackendRequest, and when no connection could be made or it broke before a response.
type Retry struct {
	Codes    []int
	Attempts int           // tries after the first
	Backoff  time.Duration // the least time between two tries
}

// Defaults of a Retry.
const (
	DefaultAttempts = 1
	DefaultBackoff  = 25 * time.Millisecond
)

// On says whether a status code is one to try again after.
func (r *Retry) On(code int) bool {
	for _, c := range r.Codes {
		if c == code {
			return true
		}
	}
	return false
}

// Draw takes a backend by weight; n is such as rand.IntN: a number below its argument. It is nil if the rule has no backend
// with a weight: the answer to a request is 500 then, unless a filter answers it.
func (r *Rule) Draw(n func(int) int) *Backend {
	if r.sum == 0 {
		return nil
	}
	at := 0
	if len(r.Backends) > 1 {
		at = n(r.sum)
	}
	for i := range r.Backends {
		if at -= r.Backends[i].Weight; at < 0 {
			return &r.Backends[i]
		}
	}
	return nil
}

// Match is the rule that a request meets.
type Match struct {
	*Rule
	Route *Route

	// Prefix is the path that the request's begins with, if the match is one by prefix: what ReplacePrefixMatch replaces.
	// It has no slash at the end.
	Prefix string
}

// Find returns the first match of a request in the specification's order, or nil. The host is the request's without its port.
func (t *Table) Find(r *http.Request, host string) *Match {
	if t == nil {
		return nil
	}
	q := query{url: r.URL}
	var found *Match
	t.hosts.each(host, func(p *paths) bool {
		found = p.find(r, &q)
		return found == nil
	})
	return found
}
