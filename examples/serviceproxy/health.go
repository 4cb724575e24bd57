package main

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// health knows whether the proxy keeps up with the changes, by kube-proxy's rule: no change may wait for longer than the
// patience.
type health struct {
	patience time.Duration
	metrics  *metrics
	now      func() time.Time

	mu         sync.Mutex
	waiting    time.Time // since then a change waits; zero: none
	last       time.Time // of the last time that nothing was left to do
	ineligible bool      // the node is about to go
}

// queued says that there is a change.
func (h *health) queued() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting.IsZero() {
		h.waiting = h.now()
	}
}

// updated says that the kernel is up to date.
func (h *health) updated() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waiting, h.last = time.Time{}, h.now()
}

// eligible says whether load balancers may send connections to this node.
func (h *health) eligible(is bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ineligible = !is
}

// healthy reports whether the proxy keeps up, and when it last did.
func (h *health) healthy() (ok bool, last time.Time, eligible bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.waiting.IsZero() && h.now().Sub(h.waiting) >= h.patience {
		return false, h.last, !h.ineligible
	}
	return true, h.now(), !h.ineligible
}

// handler answers on /healthz, which load balancers ask, and /livez, which tells whether to restart the proxy: it does not
// look at the node. Both have kube-proxy's JSON.
func (h *health) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		ok, last, eligible := h.healthy()
		h.metrics.healthz.WithLabelValues(respond(w, ok && eligible)).Inc()
		if ok {
			last = h.now()
		}
		fmt.Fprintf(w, `{"lastUpdated": %q,"currentTime": %q, "nodeEligible": %v}`, last, h.now(), eligible)
	})
	mux.HandleFunc("/livez", func(w http.ResponseWriter, _ *http.Request) {
		ok, last, _ := h.healthy()
		h.metrics.livez.WithLabelValues(respond(w, ok)).Inc()
		fmt.Fprintf(w, `{"lastUpdated": %q,"currentTime": %q}`, last, h.now())
	})
	return mux
}

// respond writes the head of an answer and returns its status.
func respond(w http.ResponseWriter, ok bool) string {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
		return "503"
	}
	w.WriteHeader(http.StatusOK)
	return "200"
}
