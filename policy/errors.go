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

// ErrUnknown is wrapped by a FieldError when nothing is set where one of several fields should be, as it looks when a later version of
// the API has one more: what is there is then read as if it matched nothing that is allowed.
var ErrUnknown = errors.New("nothing that this version knows")

// ErrStale says that the kernel's table is no longer what the plan was made from. Nothing was changed: plan again.
var ErrStale = errors.New("the table changed since the plan was made")

// ErrForeign says that a table of the Client's name exists that no Client made. It is not touched.
var ErrForeign = errors.New("a table of this name exists that podplumb did not make")

// ErrTooMany says that there are more different profiles, or selectors of peers, than Config.Mark has numbers.
var ErrTooMany = errors.New("too many profiles or selectors")

// ErrBridged says that a bridge forwards packets of pods that no policy sees; the error around it names the bridge and the remedy. What
// was asked for is in force for all other packets. See Config.AllowBridged.
var ErrBridged = errors.New("packets that a bridge forwards pass by the policies")

// OpError is the error of an operation of a Client.
type OpError struct {
	Op     string // new, read, plan, apply, sync, update, admit, watch, counters, denials
	Object string // the table
	Err    error
}

// Error returns "policy: op table: cause".
func (e *OpError) Error() string {
	if e.Object == "" {
		return "policy: " + e.Op + ": " + e.Err.Error()
	}
	return "policy: " + e.Op + " " + e.Object + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }
