package l7

import (
	"cmp"
	"slices"
	"time"

	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// State is what a Proxy is about, for people to look at.
type State struct {
	Pod          string             `json:"pod"`
	Destinations []DestinationState `json:"destinations"`
}

// DestinationState is where requests went in the last minutes.
type DestinationState struct {
	Name      string          `json:"name"`
	UnderWay  int             `json:"requestsUnderWay"`
	Endpoints []EndpointState `json:"endpoints"`
}

// EndpointState is one server of a destination.
type EndpointState struct {
	Address     string `json:"address"`
	Security    string `json:"security"` // mtls or plaintext
	Circuit     string `json:"circuit"`  // closed, open or half-open
	UnderWay    int    `json:"requestsUnderWay"`
	Connections int    `json:"connections"` // of HTTP/1.1
	Idle        int    `json:"connectionsIdle"`
	Waiting     int    `json:"requestsWaiting"`
}

// State returns what there is now.
func (p *Proxy) State() State {
	s := State{Pod: p.config.Workload.String(), Destinations: []DestinationState{}}
	p.destinations.Range(func(_, v any) bool {
		d, _ := v.(*destination)
		about := DestinationState{Name: d.name, UnderWay: int(d.underWay.Load()), Endpoints: []EndpointState{}}
		if k := d.known.Load(); k != nil {
			for _, e := range k.list {
				about.Endpoints = append(about.Endpoints, stateOf(e))
			}
		}
		s.Destinations = append(s.Destinations, about)
		return true
	})
	slices.SortFunc(s.Destinations, func(a, b DestinationState) int { return cmp.Compare(a.Name, b.Name) })
	return s
}

func stateOf(e *upstream.Endpoint) EndpointState {
	s := EndpointState{Address: e.Address, Security: "plaintext", Circuit: e.Circuit(time.Now()).String(), UnderWay: e.UnderWay()}
	if e.Secure {
		s.Security = "mtls"
	}
	s.Connections, s.Idle, s.Waiting = e.Open()
	return s
}

// Closed says whether Close was called.
func (p *Proxy) Closed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}
