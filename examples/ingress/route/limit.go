package route

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// Annotations of an Ingress that limit the requests to each of its rules.
const (
	LimitAnnotation       = "podplumb.github.io/rate-limit"        // of all clients together
	ClientLimitAnnotation = "podplumb.github.io/client-rate-limit" // of each client
)

// Limit is how many requests pass. The zero Limit is none.
type Limit struct {
	PerSecond float64
	Burst     int // how many at once
}

// IsZero says whether there is no limit.
func (l Limit) IsZero() bool { return l == Limit{} }

func (l Limit) String() string {
	if l.IsZero() {
		return "none"
	}
	return fmt.Sprintf("%g/%d", l.PerSecond, l.Burst)
}

// ParseLimit reads RATE or RATE/BURST, such as 100/200: a hundred requests a second, and two hundred at once. Without a burst it
// is the rate, at least 1. "none" is no limit.
func ParseLimit(text string) (Limit, error) {
	if text == "none" {
		return Limit{}, nil
	}
	rate, burst, given := strings.Cut(text, "/")
	l := Limit{}
	var err error
	if l.PerSecond, err = strconv.ParseFloat(rate, 64); err != nil || !(l.PerSecond > 0 && l.PerSecond <= 1e9) {
		return Limit{}, fmt.Errorf("%q is not RATE or RATE/BURST, such as 100/200 for a hundred requests a second and two hundred at once", text)
	}
	l.Burst = max(1, int(l.PerSecond))
	if given {
		if l.Burst, err = strconv.Atoi(burst); err != nil || l.Burst < 1 {
			return Limit{}, fmt.Errorf("%q: the burst %q is not a number from 1", text, burst)
		}
	}
	return l, nil
}

// Limits are those of a rule; nil ones are the controller's own defaults.
type Limits struct {
	All, Client *Limit
}

// limitsOf reads the annotations. One with a fault counts as if it were not there.
func limitsOf(ingress *networkingv1.Ingress) (Limits, error) {
	var faults []error
	read := func(name string) *Limit {
		text, ok := ingress.Annotations[name]
		if !ok {
			return nil
		}
		l, err := ParseLimit(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("Ingress %s/%s: metadata.annotations[%q]: %w", ingress.Namespace, ingress.Name, name, err))
			return nil
		}
		return &l
	}
	return Limits{All: read(LimitAnnotation), Client: read(ClientLimitAnnotation)}, errors.Join(faults...)
}
