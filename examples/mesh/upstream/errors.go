package upstream

import (
	"errors"
	"fmt"
)

// Errors of a Pool.
var (
	ErrOverflow = errors.New("too many requests wait for a connection")
	ErrClosed   = errors.New("the server is gone from the endpoints")
	errHead     = errors.New("the head of the response is too long")
	errHeader   = errors.New("a line end in the head of the request")
)

// NotSent is the error of a request of which the server saw nothing: it may go elsewhere, whatever its method.
type NotSent struct{ Err error }

func (e *NotSent) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *NotSent) Unwrap() error { return e.Err }

// Stale is the error of a request over a connection that had served others and ended before a byte of the response came.
// Most likely the server closed it while it lay idle.
type Stale struct{ Err error }

func (e *Stale) Error() string {
	return fmt.Sprintf("connection ended as it was used again: %v", e.Err)
}

// Unwrap returns the cause.
func (e *Stale) Unwrap() error { return e.Err }

// BodyError is an error of the request's body: the client's, not the server's.
type BodyError struct{ Err error }

func (e *BodyError) Error() string { return fmt.Sprintf("the request's body: %v", e.Err) }

// Unwrap returns the cause.
func (e *BodyError) Unwrap() error { return e.Err }
