package upstream

import (
	"sync"
	"time"
)

// BreakerConfig says when an endpoint gets no more requests.
type BreakerConfig struct {
	Failures int           // one after the other that open the circuit; 0: 5, negative: it never opens
	Open     time.Duration // until the first probe; doubles with each that fails; 0: 1 s
	Longest  time.Duration // of that; 0: 1 min
}

func (c BreakerConfig) defaults() BreakerConfig {
	if c.Failures == 0 {
		c.Failures = 5
	}
	if c.Open == 0 {
		c.Open = time.Second
	}
	if c.Longest == 0 {
		c.Longest = time.Minute
	}
	return c
}

// Circuit is the state of a breaker.
type Circuit uint8

// The circuits.
const (
	Closed   Circuit = iota // requests pass
	Open                    // none does
	HalfOpen                // one at a time may try
)

func (c Circuit) String() string {
	switch c {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half-open"
	}
	return "unknown"
}

// breaker keeps requests from an endpoint that fails. It is its own and not one of failsafe-go's, because who picks an
// endpoint has to see many circuits without taking a permit of each, and because how a request ended is known only when its
// trailers are there, long after whoever picked is gone.
type breaker struct {
	config BreakerConfig

	mu      sync.Mutex
	failed  int       // one after the other
	till    time.Time // open until then; zero: closed
	opened  int       // times one after the other
	probing bool
}

// Verdict is how a request ended, as far as the endpoint is to blame.
type Verdict uint8

// The verdicts.
const (
	Success Verdict = iota
	Failure
	Neither // the client went away, say
)

func (b *breaker) circuit(now time.Time) Circuit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state(now)
}

func (b *breaker) state(now time.Time) Circuit {
	switch {
	case b.till.IsZero():
		return Closed
	case now.Before(b.till):
		return Open
	}
	return HalfOpen
}

// admit says whether a request may pass. If it is a probe, its end decides.
func (b *breaker) admit(now time.Time) (probe, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state(now) {
	case Closed:
		return false, true
	case HalfOpen:
		if !b.probing {
			b.probing = true
			return true, true
		}
	}
	return false, false
}

// end takes what came of a request; it says what became of the circuit if that changed.
func (b *breaker) end(now time.Time, probe bool, v Verdict) (to Circuit, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if probe {
		b.probing = false
	}
	switch {
	case v == Success && (probe || b.till.IsZero()):
		changed = !b.till.IsZero()
		b.failed, b.opened, b.till = 0, 0, time.Time{}
		return Closed, changed
	case v == Failure && (probe || b.till.IsZero()):
		b.failed++
		if probe || b.config.Failures > 0 && b.failed >= b.config.Failures {
			wait := b.config.Longest
			if b.opened < 30 && b.config.Open<<b.opened < wait {
				wait = b.config.Open << b.opened
			}
			b.opened++
			b.till = now.Add(wait)
			return Open, true
		}
	}
	return b.state(now), false
}
