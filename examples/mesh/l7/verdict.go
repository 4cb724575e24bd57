package l7

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

// verdict says whether the endpoint is to blame.
func verdict(response *http.Response, err error) upstream.Verdict {
	switch {
	case err == nil && response.StatusCode >= 500 && response.StatusCode != http.StatusNotImplemented:
		return upstream.Failure
	case err == nil && slices.Contains(faulty, grpcStatusOf(response)):
		return upstream.Failure
	case err == nil:
		return upstream.Success
	}
	var body *upstream.BodyError
	switch {
	case errors.As(err, &body), errors.Is(err, context.Canceled), errors.Is(err, upstream.ErrOverflow), errors.Is(err, errRequestTime), errors.Is(err, upstream.ErrClosed):
		return upstream.Neither
	}
	return upstream.Failure
}

// faulty are the codes of gRPC that blame the server: unknown, deadline exceeded, internal, unavailable, data loss.
var faulty = []string{"2", "4", "13", "14", "15"}

// grpcStatusOf is the code in the trailers, once they are there, or in the headers of a response that has nothing else.
func grpcStatusOf(response *http.Response) string {
	if s := response.Trailer["Grpc-Status"]; len(s) > 0 {
		return s[0]
	}
	if s := response.Header["Grpc-Status"]; len(s) > 0 {
		return s[0]
	}
	return ""
}
