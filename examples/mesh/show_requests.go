package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/podplumb/podplumb/examples/mesh/trace"
)

const traceFile = "spans.json"

// showTrace follows one request from web to order to payment to ledger. web begins the trace, as an application that is
// instrumented does.
func (d *demo) showTrace(ctx context.Context) error {
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	if _, err := d.get(ctx, "web", orderAddrs[0], "/checkout", http.Header{"Traceparent": {"00-" + id + "-00f067aa0ba902b7-01"}}); err != nil {
		return err
	}
	for end := time.Now().Add(5 * time.Second); ; {
		t, err := d.trace(ctx, id)
		if err != nil {
			return err
		}
		if t != nil && len(t.Spans) == 6 || time.Now().After(end) {
			d.verdict(t != nil && isChain(t, "00f067aa0ba902b7"), "one trace over three hops, of two spans each: the client's proxy and the server's")
			if t != nil {
				for line := range strings.Lines(t.String()) {
					d.detail("%s", strings.TrimRight(line, "\n"))
				}
			}
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// trace reads a trace out of the file that spans go to.
func (d *demo) trace(ctx context.Context, id string) (*trace.Trace, error) {
	if err := d.requests.recorder.Flush(ctx); err != nil {
		return nil, err
	}
	file, err := os.Open(filepath.Join(d.dir, traceFile))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := trace.Read(file)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].ID == id {
			return &all[i], nil
		}
	}
	return nil, nil
}

// isChain holds for six spans below parent, each the parent of the next one, which alternate between clients and servers.
func isChain(t *trace.Trace, parent string) bool {
	for i := range 6 {
		kind := []string{"client", "server"}[i%2]
		next := ""
		for _, s := range t.Spans {
			if s.Parent == parent && s.Kind == kind {
				next = s.ID
			}
		}
		if next == "" {
			return false
		}
		parent = next
	}
	return len(t.Spans) == 6
}

// showCanary asks often, and counts which version answered.
func (d *demo) showCanary(ctx context.Context) error {
	const requests, clients = 500, 4
	v2 := 0
	var failed error
	var mu sync.Mutex
	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			for i := n; i < requests; i += clients {
				said, err := d.get(ctx, "web", orderAddrs[i%2], "/", nil)
				mu.Lock()
				failed = errors.Join(failed, err)
				if strings.Contains(said, "payment-v2") {
					v2++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	share := 100 * float64(v2) / requests
	d.verdict(failed == nil && share > 5 && share < 15, "canary: of %d requests payment-v1 got %.1f %% and payment-v2 %.1f %%; the route says 90 and 10", requests, 100-share, share)
	if failed != nil {
		d.detail("%v", failed)
	}
	said, err := d.get(ctx, "web", orderAddrs[0], "/", http.Header{"X-Version": {"v2"}})
	if err != nil {
		return err
	}
	d.verdict(said == "order < payment-v2 < ledger", "whoever asks for version 2 gets it: %s", fmt.Sprint(said))
	return nil
}
