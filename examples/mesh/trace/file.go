package trace

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
)

const fileLimit = 64 << 20 // bytes; then the file is put aside

// file writes OTLP/JSON (https://opentelemetry.io/docs/specs/otel/protocol/file-exporter/): one ExportTraceServiceRequest
// a line.
type file struct {
	mu   sync.Mutex
	to   *os.File
	size int64
}

func openFile(path string) (*file, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, fmt.Errorf("trace: %w", err)
	}
	about, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("trace: %w", err)
	}
	return &file{to: f, size: about.Size()}, nil
}

// Start implements otlptrace.Client.
func (f *file) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (f *file) Stop(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.to.Close()
}

// UploadTraces implements otlptrace.Client.
func (f *file) UploadTraces(_ context.Context, spans []*tracepb.ResourceSpans) error {
	line, err := encode(&collector.ExportTraceServiceRequest{ResourceSpans: spans})
	if err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.size > 0 && f.size+int64(len(line)) > fileLimit {
		path := f.to.Name()
		if err := os.Rename(path, path+".1"); err != nil {
			return err
		}
		next, err := openFile(path)
		if err != nil {
			return err
		}
		f.to.Close()
		f.to, f.size = next.to, next.size
	}
	n, err := f.to.Write(line) // in one call: several processes may write to one file
	f.size += int64(n)
	return err
}

// encode writes a request in OTLP's JSON, which is that of protobuf with enums as numbers and identities in hexadecimal.
func encode(r *collector.ExportTraceServiceRequest) ([]byte, error) {
	r, _ = proto.Clone(r).(*collector.ExportTraceServiceRequest)
	err := identities(r, func(id []byte) ([]byte, error) {
		// protobuf writes bytes in base64: bytes that look like hexadecimal there.
		return base64.StdEncoding.DecodeString(hex.EncodeToString(id))
	})
	if err != nil {
		return nil, err
	}
	line, err := protojson.MarshalOptions{UseEnumNumbers: true}.Marshal(r)
	return append(line, '\n'), err
}

func decode(line []byte) (*collector.ExportTraceServiceRequest, error) {
	r := &collector.ExportTraceServiceRequest{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal(line, r); err != nil {
		return nil, err
	}
	return r, identities(r, func(id []byte) ([]byte, error) {
		return hex.DecodeString(base64.StdEncoding.EncodeToString(id))
	})
}

func identities(r *collector.ExportTraceServiceRequest, change func([]byte) ([]byte, error)) error {
	each := func(ids ...*[]byte) error {
		for _, id := range ids {
			changed, err := change(*id)
			if err != nil {
				return fmt.Errorf("an identity: %w", err)
			}
			*id = changed
		}
		return nil
	}
	for _, of := range r.ResourceSpans {
		for _, scope := range of.ScopeSpans {
			for _, s := range scope.Spans {
				if err := each(&s.TraceId, &s.SpanId, &s.ParentSpanId); err != nil {
					return err
				}
				for _, link := range s.Links {
					if err := each(&link.TraceId, &link.SpanId); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}
