package netns

import (
	"errors"
	"io/fs"
)

// ErrNotNamespace is what a [*NotNamespaceError] Is.
var ErrNotNamespace = errors.New("not a network namespace")

// NotNamespaceError says that a file that exists is no network namespace.
type NotNamespaceError struct {
	Path  string // the path that was given
	Found string // what is there, such as "a regular file" or "a mount namespace"
}

func (e *NotNamespaceError) Error() string {
	return "holds " + e.Found + ": " + ErrNotNamespace.Error()
}

// Is reports true for [ErrNotNamespace].
func (e *NotNamespaceError) Is(target error) bool { return target == ErrNotNamespace }

// OpError is the error of every function of this package, except what the
// caller's own function returned to [NS.Do]. Err Is one of [fs.ErrNotExist],
// [fs.ErrExist], [fs.ErrPermission], [fs.ErrClosed], [fs.ErrInvalid],
// [ErrNotNamespace] and [errors.ErrUnsupported] where one of them fits, and says
// what to do.
type OpError struct {
	Op     string // what was tried: new, create, open, do, dial, ...
	Object string // on what: a name, a path, a key, a namespace
	Err    error
}

func (e *OpError) Error() string {
	return "netns: " + e.Op + " " + e.Object + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// Timeout reports whether a dial took too long; it makes [net/url.Error] say so too.
func (e *OpError) Timeout() bool {
	var t interface{ Timeout() bool }
	return errors.As(e.Err, &t) && t.Timeout()
}

// hint is a cause with the advice in front of it.
type hint struct {
	advice string
	err    error
}

func (h *hint) Error() string { return h.advice + ": " + h.err.Error() }
func (h *hint) Unwrap() error { return h.err }

// opError wraps err once and adds advice where the cause alone does not tell.
func opError(op, object string, err error) error {
	if e := (*OpError)(nil); errors.As(err, &e) {
		return err
	}
	if object == "" {
		object = `""`
	}
	if h := (*hint)(nil); !errors.As(err, &h) {
		if advice := advise(op, err); advice != "" {
			err = &hint{advice, err}
		}
	}
	return &OpError{Op: op, Object: object, Err: err}
}

// unwrapOp returns the cause of an error that will be wrapped again.
func unwrapOp(err error) error {
	if e := (*OpError)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// advise returns what to do about err, or "" when the error says so itself.
func advise(op string, err error) string {
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return "network namespaces need Linux 4.11 or later"
	case errors.Is(err, fs.ErrClosed):
		return "the handle was closed before this call (open the namespace again)"
	case errors.Is(err, ErrNotNamespace):
		return "give the path of a namespace file, such as /run/netns/NAME or /proc/PID/ns/net"
	}
	for _, a := range advices[op] {
		if errors.Is(err, a.when) {
			return a.say
		}
	}
	return ""
}

type advice struct {
	when error
	say  string
}

const (
	opOpen   = "open"
	opCreate = "create"
	opRemove = "remove"
	opPin    = "pin"
	opUnpin  = "unpin"
	opRead   = "read sysctl"
	opWrite  = "write sysctl"
	opNSID   = "assign nsid"
)

// mountAdvice is for what changes the mount namespace.
var mountAdvice = advice{fs.ErrPermission, "mounting needs CAP_SYS_ADMIN over the mount namespace (run as root, or inside `unshare -Urnm`)"}

// advices holds what to do about an error of each operation.
var advices = map[string][]advice{
	opOpen: {
		{fs.ErrNotExist, "no namespace is there, or it vanished (see List, or whether the process still runs)"},
		{fs.ErrPermission, "the caller may not look at it (run as root, or as the owner of the process)"},
	},
	opCreate: {
		{fs.ErrExist, "the name is taken (open it with OpenName, or Remove it first)"},
		mountAdvice,
	},
	opRemove: {
		{fs.ErrNotExist, "no namespace has this name (nothing is left to remove)"},
		mountAdvice,
	},
	opPin: {
		{fs.ErrExist, "something is at the path (Unpin it, or choose another)"},
		{fs.ErrNotExist, "the directory does not exist (make it first)"},
		mountAdvice,
	},
	opUnpin: {
		{fs.ErrNotExist, "no pin is there (nothing is left to remove)"},
		mountAdvice,
	},
	opRead:  {{fs.ErrNotExist, noSetting}, {fs.ErrPermission, "the caller may not read it (run as root)"}},
	opWrite: {{fs.ErrNotExist, noSetting}, {fs.ErrPermission, "only the owner of the namespace may write it (run as root), and some settings belong to the first namespace alone"}},
	opNSID:  {{fs.ErrExist, "the peer has an id already, or another namespace has this one (ask NSID)"}},
}

const noSetting = "this namespace has no such setting (is the link there, its name spelled right, the kernel module loaded?)"
