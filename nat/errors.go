package nat

import "errors"

// ErrStale says that the kernel's table is no longer what the plan was made
// from. Nothing was changed: plan again.
var ErrStale = errors.New("the table changed since the plan was made")

// OpError is the error of an operation of this package.
type OpError struct {
	Op     string // new, read, plan, apply, sync, update, watch
	Object string // the table
	Err    error
}

func (e *OpError) Error() string {
	if e.Object == "" {
		return "nat: " + e.Op + ": " + e.Err.Error()
	}
	return "nat: " + e.Op + " " + e.Object + ": " + e.Err.Error()
}

func (e *OpError) Unwrap() error { return e.Err }

// ErrForeign says that a table of the Client's name exists that no Client
// made. It is not touched.
var ErrForeign = errors.New("a table of this name exists that podplumb did not make")

// errDamaged is why Update cannot work on a table whose rest is not known.
var errDamaged = errors.New("the table was changed by others or made by another version: Sync it first")
