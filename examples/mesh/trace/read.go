package trace

import (
	"bufio"
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

// Trace is what is known of one trace.
type Trace struct {
	ID    string
	Spans []ReadSpan // sorted by their beginnings
}

// ReadSpan is a span as it was exported.
type ReadSpan struct {
	ID, Parent string // hexadecimal; a root has no Parent
	Service    string // the resource's service.name
	Kind       string // server, client or internal
	Name       string
	Begin      time.Time
	Took       time.Duration
	Fault      string // of one that failed
	Attributes map[string]string
}

// Read reads a file of OTLP/JSON lines. Traces are sorted by their beginnings. Lines that cannot be read are left out and
// told of in the error, with their numbers.
func Read(from io.Reader) ([]Trace, error) {
	lines := bufio.NewReader(from)
	byID := map[string]*Trace{}
	var faults []error
	for n := 1; ; n++ {
		line, err := lines.ReadBytes('\n')
		if len(line) > 1 {
			if r, err := decode(line); err != nil {
				faults = append(faults, fmt.Errorf("line %d: %w", n, err))
			} else {
				collect(byID, r.ResourceSpans)
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	var all []Trace
	for _, t := range byID {
		slices.SortFunc(t.Spans, func(a, b ReadSpan) int { return cmp.Or(a.Begin.Compare(b.Begin), cmp.Compare(a.ID, b.ID)) })
		all = append(all, *t)
	}
	slices.SortFunc(all, func(a, b Trace) int {
		return cmp.Or(a.Spans[0].Begin.Compare(b.Spans[0].Begin), cmp.Compare(a.ID, b.ID))
	})
	return all, errors.Join(faults...)
}

func collect(byID map[string]*Trace, spans []*tracepb.ResourceSpans) {
	for _, of := range spans {
		service := attributes(of.GetResource().GetAttributes())["service.name"]
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				id := hex.EncodeToString(s.TraceId)
				if byID[id] == nil {
					byID[id] = &Trace{ID: id}
				}
				read := ReadSpan{
					ID: hex.EncodeToString(s.SpanId), Parent: hex.EncodeToString(s.ParentSpanId), Service: service, Name: s.Name,
					Kind:  strings.ToLower(strings.TrimPrefix(s.Kind.String(), "SPAN_KIND_")),
					Begin: time.Unix(0, int64(s.StartTimeUnixNano)), Took: time.Duration(s.EndTimeUnixNano - s.StartTimeUnixNano),
					Attributes: attributes(s.Attributes),
				}
				if s.Status.GetCode() == tracepb.Status_STATUS_CODE_ERROR {
					read.Fault = cmp.Or(s.Status.Message, "failed")
				}
				byID[id].Spans = append(byID[id].Spans, read)
			}
		}
	}
}

func attributes(list []*commonpb.KeyValue) map[string]string {
	all := map[string]string{}
	for _, a := range list {
		switch v := a.Value.GetValue().(type) {
		case *commonpb.AnyValue_StringValue:
			all[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			all[a.Key] = strconv.FormatInt(v.IntValue, 10)
		case *commonpb.AnyValue_BoolValue:
			all[a.Key] = strconv.FormatBool(v.BoolValue)
		case *commonpb.AnyValue_DoubleValue:
			all[a.Key] = strconv.FormatFloat(v.DoubleValue, 'g', -1, 64)
		}
	}
	return all
}

// String draws the trace as a tree, one span a line under the one that caused it. Spans whose parent was not exported
// (an application's own, say) stand at the top.
func (t Trace) String() string {
	known, below := map[string]bool{}, map[string][]*ReadSpan{}
	for i := range t.Spans {
		known[t.Spans[i].ID] = true
	}
	for i := range t.Spans {
		s := &t.Spans[i]
		parent := s.Parent
		if !known[parent] {
			parent = ""
		}
		below[parent] = append(below[parent], s)
	}
	type row struct{ left, right string }
	var rows []row
	var draw func(parent, lead string)
	draw = func(parent, lead string) {
		for i, s := range below[parent] {
			branch, next := "├─ ", "│  "
			if i == len(below[parent])-1 {
				branch, next = "└─ ", "   "
			}
			if parent == "" {
				branch, next = "", ""
			}
			rows = append(rows, row{lead + branch + s.title(), s.about()})
			draw(s.ID, lead+next)
		}
	}
	draw("", "")
	width := 0
	for _, r := range rows {
		width = max(width, len([]rune(r.left)))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "trace %s\n", t.ID)
	for _, r := range rows {
		b.WriteString(strings.TrimRight(r.left+strings.Repeat(" ", width-len([]rune(r.left)))+"  "+r.right, " ") + "\n")
	}
	return b.String()
}

func (s *ReadSpan) title() string { return strings.TrimSpace(s.Service + " " + s.Kind + " " + s.Name) }

func (s *ReadSpan) about() string {
	about := s.Took.Round(10 * time.Microsecond).String()
	for _, key := range []string{"http.response.status_code", "rpc.response.status_code", "mesh.peer", "mesh.security", "http.request.resend_count"} {
		if v := s.Attributes[key]; v != "" {
			if key == "http.request.resend_count" {
				v = "retry " + v
			}
			about += "  " + v
		}
	}
	if s.Fault != "" {
		about += "  " + s.Fault
	}
	return about
}
