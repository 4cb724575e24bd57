package l7

import (
	"net/http"
	"sync"
)

// hints passes on responses such as "103 Early Hints", as long as there is no final one: HTTP/2's come from another goroutine.
type hints struct {
	x    *exchange
	mu   sync.Mutex
	over bool
}

func (h *hints) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.over = true
}

func (h *hints) pass(code int, header http.Header) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.over && h.x.r.ProtoAtLeast(1, 1) {
		h.x.informational(code, header)
	}
	return nil
}

func (x *exchange) informational(code int, header http.Header) {
	h := x.w.Header()
	for name, values := range header {
		h[name] = values
	}
	clean(h, false)
	x.w.WriteHeader(code)
	for name := range header {
		delete(h, name)
	}
}
