package vxlan

import (
	"errors"
	"fmt"
	"io/fs"
)

// ErrStale says that the kernel moved on since the Plan was made, or since the Sync that SetPeers and DropPeers build on. Nothing was changed
// when Apply returns it.
var ErrStale = errors.New("the kernel changed since the plan was made")

// ErrNotSynced says that SetPeers or DropPeers was called before this Client has seen a State to change: call Sync or Watch first.
var ErrNotSynced = errors.New("no state synced yet")

// ErrUnresolved says that a Plan wants a Device with fields that only the kernel can fill in; use Client.Plan, or Diff what Resolve returned.
var ErrUnresolved = errors.New("the wanted state is not resolved")

// OpError is the error of every operation on the kernel. Err can be matched with fs.ErrNotExist, fs.ErrExist, fs.ErrPermission and
// errors.ErrUnsupported.
type OpError struct {
	Op     string // "read", "sync", "apply", ...
	Object string // what it was about, as a plan prints it; may be empty
	Err    error
}

// Error returns "vxlan: op object: cause".
func (e *OpError) Error() string {
	if e.Object == "" {
		return fmt.Sprintf("vxlan: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("vxlan: %s %s: %v", e.Op, e.Object, e.Err)
}

// Unwrap returns the cause.
func (e *OpError) Unwrap() error { return e.Err }

// ForeignKind says what kind of object a Foreign is.
type ForeignKind uint8

// The kinds of foreign objects.
const (
	ForeignLink ForeignKind = iota + 1
	ForeignAddress
	ForeignFDB
	ForeignNeighbour
	ForeignRoute
)

// String returns the kind's name as plans print it.
func (k ForeignKind) String() string {
	switch k {
	case ForeignLink:
		return "link"
	case ForeignAddress:
		return "address"
	case ForeignFDB:
		return "fdb"
	case ForeignNeighbour:
		return "neighbour"
	case ForeignRoute:
		return "route"
	}
	return fmt.Sprintf("ForeignKind(%d)", uint8(k))
}

// Foreign is something in the kernel that the client does not own and therefore leaves alone.
type Foreign struct {
	Kind   ForeignKind
	Link   string // the link it is, or stands on
	Object string // what it is, as "10.9.0.0/16 via 10.9.0.1"; the kind and VNI of a link
	Origin string // why it is not the client's, as "protocol 4", "alias \"lab\""
}

// String returns one line without a newline.
func (f Foreign) String() string {
	return fmt.Sprintf("%s %s on %s (%s)", f.Kind, f.Object, f.Link, f.Origin)
}

// ConflictError says that a wanted object cannot be made because something foreign stands in its place. It matches fs.ErrExist.
type ConflictError struct {
	Object  string // the wanted object, as a plan prints it
	Foreign Foreign
}

// Error names both.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("%s: in its place stands %s", e.Object, e.Foreign)
}

// Is matches fs.ErrExist.
func (e *ConflictError) Is(target error) bool { return target == fs.ErrExist }
