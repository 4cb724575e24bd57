package main

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/podplumb/podplumb/examples/mesh/l7"
)

// routeState is what became of a route at one Service.
type routeState struct {
	Route    string `json:"route"`
	Service  string `json:"service"`
	Accepted string `json:"accepted"` // the reason of the condition
	Resolved string `json:"resolvedRefs"`
	Fault    string `json:"fault,omitempty"`
}

// admin answers questions about the process: whether it lives (/healthz), whether it knows the cluster (/readyz), and what
// its proxies are about (/config).
func (q *requests) admin(mux *http.ServeMux) {
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if q.table.Load() == nil {
			http.Error(w, "what there is in the cluster is not known yet", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) {
		routes := []routeState{}
		if t := q.table.Load(); t != nil {
			for _, p := range t.Parents() {
				s := routeState{Route: p.Kind + " " + p.Namespace + "/" + p.Name, Service: string(p.Ref.Name), Accepted: string(p.Accepted), Resolved: string(p.Resolved)}
				if err := p.Err(); err != nil {
					s.Fault = err.Error()
				}
				routes = append(routes, s)
			}
		}
		w.Header().Set("Content-Type", "application/json")
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		_ = e.Encode(map[string]any{"routes": routes, "proxies": q.states()})
	})
}

func (q *requests) states() []l7.State {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.proxies = slices.DeleteFunc(q.proxies, (*l7.Proxy).Closed)
	states := []l7.State{}
	for _, p := range q.proxies {
		states = append(states, p.State())
	}
	return states
}
