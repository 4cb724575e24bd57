package policy

import "errors"

// ErrConflict is wrapped by a FieldError when two objects of a State have the same name.
var ErrConflict = errors.New("conflict")

// FieldError is one fault of the input.
type FieldError struct {
	Path string // such as policies[db/allow].spec.ingress[0].from[1].ipBlock.cidr
	Err  error
}

// Error returns "path: cause".
func (e *FieldError) Error() string { return e.Path + ": " + e.Err.Error() }

// Unwrap returns the cause.
func (e *FieldError) Unwrap() error { return e.Err }
