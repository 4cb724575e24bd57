package l7

import (
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"golang.org/x/net/http2"

	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// elsewhere is how many more endpoints are tried when nothing of a request was sent, whatever its route says of retries.
const elsewhere = 2

// mayRepeat says whether the request may be done twice: because that makes no difference, or because the route's owner
// says so in naming the method in a rule with retries. gRPC has no methods that tell; the rule is its owner's word.
func (x *exchange) mayRepeat() bool {
	switch x.r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return x.retry != nil && (x.grpc || x.rule != nil && x.rule.Retry != nil && x.proxy.config.Routes().Names(x.rule, x.r.Method))
}

// again says whether the request is tried once more, and takes that from the budget.
func (x *exchange) again(response *http.Response, err error) bool {
	if x.r.Context().Err() != nil || !x.wanted(response, err) || !x.body.again() {
		return false
	}
	if !x.to.budget.Retry(time.Now()) {
		x.proxy.config.Metrics.spent(x)
		return false
	}
	x.proxy.config.Metrics.retried(x)
	return true
}

func (x *exchange) wanted(response *http.Response, err error) bool {
	if err == nil && response.StatusCode < 400 && !x.grpc && (x.retry == nil || !x.retry.On(response.StatusCode)) {
		return false // as nearly always
	}
	var notSent *upstream.NotSent
	var stale *upstream.Stale
	var reset http2.StreamError
	unseen := errors.As(err, &notSent) || errors.As(err, &reset) && reset.Code == http2.ErrCodeRefusedStream
	said := x.peerSays(response)
	switch {
	case errors.Is(err, upstream.ErrOverflow):
		return false
	case unseen, said == unreached:
		attempts := elsewhere
		if x.retry != nil {
			attempts = max(attempts, x.retry.Attempts)
		}
		return x.retries < attempts
	case errors.As(err, &stale) && x.retries < elsewhere && x.mayRepeat():
		return true
	case x.retry == nil || x.retries >= x.retry.Attempts || !x.mayRepeat():
		return false
	case said == broke:
		return true
	case err != nil:
		var body *upstream.BodyError
		return !errors.As(err, &body)
	case x.grpc:
		code, ok := grpcAsHTTP[grpcStatusOf(response)]
		return x.retry.On(response.StatusCode) || ok && x.retry.On(code)
	}
	return x.retry.On(response.StatusCode)
}

// peerSays returns what went wrong behind the proxy of the other side, if that is who answers.
func (x *exchange) peerSays(response *http.Response) string {
	if response == nil || !x.last.Secure || x.stream.Direction == stream.Inbound {
		return ""
	}
	if said := response.Header["Proxy-Status"]; len(said) == 1 {
		return strings.TrimPrefix(said[0], proxyStatus)
	}
	return ""
}

// grpcAsHTTP are the codes of gRPC of a response that failed before it began, as the codes of HTTP that a route names.
var grpcAsHTTP = map[string]int{"1": 499, "2": 500, "4": 504, "5": 404, "7": 403, "8": 429, "10": 409, "12": 501, "13": 500, "14": 503, "16": 401}

// wait lets some time pass before the next try: about the backoff, which doubles with each.
func (x *exchange) wait() bool {
	if x.retry == nil {
		return true
	}
	backoff := x.retry.Backoff << min(x.retries, 6)
	backoff += time.Duration(rand.Int64N(int64(backoff)/4 + 1)) //nolint:gosec // so that not all come back at once
	timer := time.NewTimer(backoff)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-x.r.Context().Done():
		return false
	}
}
