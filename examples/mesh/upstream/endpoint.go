package upstream

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// Endpoint is a server with its connections, its circuit and the requests that it has. Make it with NewEndpoint.
type Endpoint struct {
	*Pool
	Address string
	Secure  bool // connections are mutual TLS

	breaker  breaker
	underWay atomic.Int64
}

// NewEndpoint makes an Endpoint.
func NewEndpoint(address string, secure bool, config Config, breaks BreakerConfig) *Endpoint {
	return &Endpoint{Address: address, Secure: secure, Pool: New(config), breaker: breaker{config: breaks.defaults()}}
}

// UnderWay returns how many requests the endpoint has.
func (e *Endpoint) UnderWay() int { return int(e.underWay.Load()) }

// Circuit returns the state of the endpoint's circuit.
func (e *Endpoint) Circuit(now time.Time) Circuit { return e.breaker.circuit(now) }

// Turn is a request's stay with an Endpoint. It has to be ended.
type Turn struct {
	Endpoint *Endpoint
	probe    bool
	ended    atomic.Bool
}

// End tells how the request ended, and returns what became of the circuit if that changed. Only the first call counts.
func (t *Turn) End(v Verdict) (to Circuit, changed bool) {
	if t.ended.Swap(true) {
		return Closed, false
	}
	t.Endpoint.underWay.Add(-1)
	return t.Endpoint.breaker.end(time.Now(), t.probe, v)
}

// Pick takes an endpoint: of two drawn at random the one that has less to do. Those whose circuit is open are left out, and
// those that were tried as long as there are others. It returns nil if there is none.
func Pick(endpoints []*Endpoint, tried []*Endpoint, now time.Time) *Turn {
	if t := pick(endpoints, tried, now); t != nil || len(tried) == 0 {
		return t
	}
	return pick(endpoints, nil, now)
}

func pick(endpoints []*Endpoint, tried []*Endpoint, now time.Time) *Turn {
	n := len(endpoints)
	if n == 0 {
		return nil
	}
	first, second := rand.IntN(n), 0 //nolint:gosec // to spread requests
	if n > 1 {
		if second = rand.IntN(n - 1); second >= first { //nolint:gosec // as above
			second++
		}
		if endpoints[second].underWay.Load() < endpoints[first].underWay.Load() {
			first, second = second, first
		}
	}
	if t := take(endpoints[first], tried, now); t != nil {
		return t
	}
	for i := range n { // the rest in a row, from the other one on
		if t := take(endpoints[(second+i)%n], tried, now); t != nil {
			return t
		}
	}
	return nil
}

func take(e *Endpoint, tried []*Endpoint, now time.Time) *Turn {
	for _, other := range tried {
		if other == e {
			return nil
		}
	}
	probe, ok := e.breaker.admit(now)
	if !ok {
		return nil
	}
	e.underWay.Add(1)
	return &Turn{Endpoint: e, probe: probe}
}
