package service

import "errors"

// ErrConflict is wrapped by a FieldError when two objects claim the same name, address or node port.
var ErrConflict = errors.New("conflict")

// OpError says which operation failed on what. Err holds the cause; for bad input it joins one *FieldError for every fault.
type OpError struct {
	Op     string // "resolve", "sync", "update", "apply"
	Object string // what it was about
	Err    error
}

func (e *OpError) Error() string { return "service: " + e.Op + " " + e.Object + ": " + e.Err.Error() }

func (e *OpError) Unwrap() error { return e.Err }

// FieldError is one fault of the input.
type FieldError struct {
	Path string // such as services[default/web].spec.ports[0].port
	Err  error
}

func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }

func (e *FieldError) Unwrap() error { return e.Err }
