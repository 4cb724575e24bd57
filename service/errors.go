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

// UnservedError is what a Backend says of a Frontend that it cannot serve. Err wraps errors.ErrUnsupported.
type UnservedError struct {
	Key     Key
	Service Name
	Err     error
}

func (e *UnservedError) Error() string {
	return e.Key.String() + " of " + e.Service.String() + ": " + e.Err.Error()
}

func (e *UnservedError) Unwrap() error { return e.Err }

// unserved returns the keys of the Frontends that err is about, when it is about nothing else.
func unserved(err error) (map[Key]bool, bool) {
	keys := map[Key]bool{}
	var walk func(error) bool
	walk = func(err error) bool {
		switch e := err.(type) { //nolint:errorlint // it walks the tree itself
		case *UnservedError:
			keys[e.Key] = true
			return true
		case interface{ Unwrap() []error }:
			for _, part := range e.Unwrap() {
				if !walk(part) {
					return false
				}
			}
			return true
		case interface{ Unwrap() error }:
			return walk(e.Unwrap())
		}
		return false
	}
	return keys, walk(err) && len(keys) > 0
}
