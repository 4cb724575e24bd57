package apiserver

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// watch sends what changes, from a resource version on; first what there is, when that is asked for.
func (s *Server) watch(w http.ResponseWriter, r *http.Request, c call) {
	query := r.URL.Query()
	wanted, err := c.selector(query)
	if err != nil {
		tell(w, nil, err)
		return
	}
	since, err := strconv.ParseUint(query.Get("resourceVersion"), 10, 64)
	if err != nil && query.Get("resourceVersion") != "" {
		tell(w, nil, apierrors.NewBadRequest(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	flush := http.NewResponseController(w).Flush
	send := func(kind string, object map[string]any) {
		_ = json.NewEncoder(w).Encode(map[string]any{"type": kind, "object": object})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if initial := query.Get("sendInitialEvents") == "true"; initial || since == 0 {
		for _, at := range s.sorted(c.resource) {
			if object := s.objects[at]; wanted(at, object) {
				send("ADDED", c.shown(object))
			}
		}
		since = s.version
		if initial {
			send("BOOKMARK", c.shown(map[string]any{"metadata": map[string]any{
				"resourceVersion": strconv.FormatUint(since, 10), "annotations": map[string]any{metav1.InitialEventsAnnotationKey: "true"},
			}}))
		}
	}
	_ = flush()
	defer context.AfterFunc(r.Context(), s.changed.Broadcast)()
	for r.Context().Err() == nil && !s.closed {
		fresh := s.events[min(since, uint64(len(s.events))):]
		since = s.version
		if len(fresh) == 0 {
			s.changed.Wait()
			continue
		}
		s.mu.Unlock()
		for _, e := range fresh {
			if wanted(e.key, e.object) {
				send(e.kind, c.shown(e.object))
			}
		}
		_ = flush()
		s.mu.Lock()
	}
}
