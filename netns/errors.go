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
// caller's own function returned to [NS.Do]. Err Is one of [fs.ErrNotExist], [fs.ErrExist],
// [fs.ErrPermission], [fs.ErrClosed], [fs.ErrInvalid], [ErrNotNamespace] and
// [errors.ErrUnsupported] where one of them fits, and says what to do.
type OpError struct {
	Op     string // what was tried: new, create, open, do, dial, ...
	Object string // on what: a name, a path, a key
	Err    error
}

func (e *OpError) Error() string {
	return "netns: " + e.Op + " " + e.Object + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

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
	if advice := advise(op, err); advice != "" {
		err = &hint{advice, err}
	}
	return &OpError{Op: op, Object: object, Err: err}
}

// advise returns what to do about err, or "" when the error says so itself.
func advise(op string, err error) string {
	if h := (*hint)(nil); errors.As(err, &h) {
		return ""
	}
	switch {
	case errors.Is(err, fs.ErrClosed):
		return "the handle was closed before this call (open the namespace again)"
	case errors.Is(err, ErrNotNamespace):
		return "give the path of a namespace file, such as /run/netns/NAME or /proc/PID/ns/net"
	case errors.Is(err, errors.ErrUnsupported):
		return "network namespaces need Linux 4.11 or later"
	case errors.Is(err, fs.ErrPermission):
		if op == "open" {
			return "the caller may not see it (run as root, or as the user who owns the process or namespace)"
		}
		return "the caller lacks CAP_SYS_ADMIN (run as root, or inside `unshare -Urnm`)"
	case errors.Is(err, fs.ErrExist):
		return "the name is taken (open it with OpenName, or Remove it first)"
	case errors.Is(err, fs.ErrNotExist):
		switch op {
		case "open":
			return "no namespace is there, or it vanished (see List, or whether the process still runs)"
		case "remove":
			return "no namespace has this name (nothing is left to remove)"
		}
	}
	return ""
}
