package main

import (
	"sync"
	"time"

	"github.com/podplumb/podplumb/service"
)

// inbox gathers what happens to the objects until the engine takes it. A later change of an object takes the place of an
// earlier one, so it never holds more than there are objects. nil stands for an object that is gone.
type inbox struct {
	queued func() // called when there is something to take

	mu    sync.Mutex
	batch *batch
	wake  chan struct{}
}

// batch is what was gathered.
type batch struct {
	services map[service.Name]*service.Service
	slices   map[service.Name]*service.EndpointSlice
	pods     map[service.Name]*service.Pod
	nodes    map[string]*service.Node
	// anew asks for all objects to be taken from the source again: a setting has changed.
	anew bool
	// triggers are the times at which the endpoints that the slices tell of had changed.
	triggers []time.Time
}

func newInbox(queued func()) *inbox {
	return &inbox{queued: queued, batch: newBatch(), wake: make(chan struct{}, 1)}
}

func newBatch() *batch {
	return &batch{
		services: map[service.Name]*service.Service{}, slices: map[service.Name]*service.EndpointSlice{},
		pods: map[service.Name]*service.Pod{}, nodes: map[string]*service.Node{},
	}
}

// put adds to the batch.
func (in *inbox) put(add func(*batch)) {
	in.mu.Lock()
	add(in.batch)
	in.mu.Unlock()
	in.queued()
	select {
	case in.wake <- struct{}{}:
	default: // somebody has knocked already
	}
}

// take empties the inbox.
func (in *inbox) take() *batch {
	in.mu.Lock()
	defer in.mu.Unlock()
	b := in.batch
	in.batch = newBatch()
	return b
}

// changes puts the batch into the words of package service.
func (b *batch) changes() service.Changes {
	var c service.Changes
	c.Services, c.DropServices = parted(b.services)
	c.EndpointSlices, c.DropEndpointSlices = parted(b.slices)
	c.Pods, c.DropPods = parted(b.pods)
	c.Nodes, c.DropNodes = parted(b.nodes)
	return c
}

// parted separates what is there from what is gone.
func parted[K comparable, V any](m map[K]*V) (set []V, drop []K) {
	for k, v := range m {
		if v == nil {
			drop = append(drop, k)
		} else {
			set = append(set, *v)
		}
	}
	return set, drop
}
