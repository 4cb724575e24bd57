package nat

import (
	"errors"
	"io/fs"
	"net/netip"
	"strconv"
)

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

// A ConflictError says that what a Change with an Owner was to set is there
// under another name, or that a network to set overlaps another. Nothing was
// changed. errors.Is finds it as fs.ErrExist.
type ConflictError struct {
	Key     Key          // of a forward; zero for a network
	Network netip.Prefix // what is there already
	Name    string       // of what is there
	To      []Target     // where the forward that is there leads
}

func (e *ConflictError) Error() string {
	s := "network " + e.Network.String() + " is there already"
	if e.Key.Addr.IsValid() {
		s = e.Key.String() + " is forwarded to " + join(e.To) + " already"
	}
	if e.Name != "" {
		s += " for " + strconv.Quote(e.Name)
	}
	return s
}

// Is makes it an fs.ErrExist.
func (e *ConflictError) Is(target error) bool { return target == fs.ErrExist }

// ErrDamaged says that Update or PlanUpdate cannot work on a table whose rest
// is not known: others changed its rules, or another version of this package
// made it. Sync makes it anew.
var ErrDamaged = errors.New("the table was changed by others or made by another version: Sync it first")
