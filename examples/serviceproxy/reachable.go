package main

import (
	"log/slog"
	"net/http"
	"sync/atomic"
)

// reachable tells when the API server stops answering and when it answers again. The informers go on trying and keep what
// they know; nobody would hear of it.
type reachable struct {
	log  *slog.Logger
	next http.RoundTripper
	away *atomic.Bool
}

func (r *reachable) RoundTrip(request *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(request)
	switch {
	case err != nil && request.Context().Err() != nil: // we ended it
	case err != nil && r.away.CompareAndSwap(false, true):
		r.log.Warn("the API server does not answer: the objects count as they were", "err", err)
	case err == nil && r.away.CompareAndSwap(true, false):
		r.log.Info("the API server answers again")
	}
	return response, err
}
