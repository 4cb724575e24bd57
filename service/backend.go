package service

import "context"

// A Backend makes a node keep its promises.
type Backend interface {
	// Apply changes what the node does by the Plan: all of it or, on an error, nothing. Connections to a Frontend that is set again with other endpoints
	// never see it absent. Drop names keys that may already be gone. Frontends that the Backend cannot serve are an error that joins one *UnservedError
	// for each and nothing else; a Backend does not serve half of a promise.
	Apply(ctx context.Context, p Plan) error
}
