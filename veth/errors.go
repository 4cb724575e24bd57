package veth

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"strings"
)

// ErrStale says that the kernel's state is no longer the one that a plan was made for. Nothing was changed; plan again.
var ErrStale = errors.New("the kernel's state changed since the plan was made")

// OpError is the error of every call on the kernel. Err is one of the errors below, or the kernel's own; errors.Is finds fs.ErrNotExist,
// fs.ErrExist, fs.ErrPermission and errors.ErrUnsupported in it.
type OpError struct {
	Op     string // new, read, plan, apply, attach, detach, announce
	Object string // "pair web0", "bridge cni0", "/run/netns/web"
	Err    error
}

// Error returns "veth: op object: cause".
func (e *OpError) Error() string {
	if e.Object == "" {
		return "veth: " + e.Op + ": " + e.Err.Error()
	}
	return "veth: " + e.Op + " " + e.Object + ": " + e.Err.Error()
}

// Unwrap returns Err.
func (e *OpError) Unwrap() error { return e.Err }

// FieldError is one fault of a State; Validate joins all of them. It is fs.ErrInvalid to errors.Is.
type FieldError struct {
	Path  string // pairs[0].pod.addresses[1]
	Fault string
}

// Error returns "path: fault".
func (e *FieldError) Error() string { return e.Path + ": " + e.Fault }

// Is reports whether target is fs.ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == fs.ErrInvalid }

// ForeignError says that a name that the state wants belongs to a link that is not this client's. It is fs.ErrExist to errors.Is.
type ForeignError struct {
	Name  string // of the link
	NetNS string // path of the namespace it is in; empty: the node's
	Kind  string // veth, bridge, dummy...; empty: a physical device
	Alias string // whose it is, if that is written anywhere
}

// Error says who has the name.
func (e *ForeignError) Error() string {
	kind, where, owner := e.Kind, "", "without an owner in its alias"
	if kind == "" {
		kind = "device"
	}
	if e.NetNS != "" {
		where = " in " + e.NetNS
	}
	if e.Alias != "" {
		owner = fmt.Sprintf("of %q", e.Alias)
	}
	return fmt.Sprintf("the name %s%s is taken by a %s %s, which is left alone", e.Name, where, kind, owner)
}

// Is reports whether target is fs.ErrExist.
func (e *ForeignError) Is(target error) bool { return target == fs.ErrExist }

// AddressError says that a bridge has addresses that its state does not list, and Config.ForceAddress is off.
type AddressError struct {
	Bridge string
	Have   []netip.Prefix // the addresses that are in the way
	Want   []netip.Prefix
}

// Error names both sides and the way out.
func (e *AddressError) Error() string {
	return fmt.Sprintf("the bridge has %s, which the wanted gateway addresses %s do not include (ForceAddress replaces them)", join(e.Have), orNone(join(e.Want)))
}

// BusyError says that a bridge that should go still has ports of others; it is kept.
type BusyError struct {
	Bridge string
	Ports  []string
}

// Error names the ports.
func (e *BusyError) Error() string {
	return fmt.Sprintf("the bridge has ports of others (%s) and is kept", strings.Join(e.Ports, ", "))
}

// PodGoneError says that nothing, or no network namespace, is at the path of a pod's namespace. It is fs.ErrNotExist to errors.Is.
type PodGoneError struct {
	NetNS string
	Err   error
}

// Error names the path.
func (e *PodGoneError) Error() string {
	return fmt.Sprintf("the pod's namespace %s: %s", e.NetNS, e.Err)
}

// Unwrap returns Err.
func (e *PodGoneError) Unwrap() error { return e.Err }

// Is reports whether target is fs.ErrNotExist.
func (e *PodGoneError) Is(target error) bool { return target == fs.ErrNotExist }

func opError(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var done *OpError
	if errors.As(err, &done) {
		return err
	}
	return &OpError{Op: op, Object: object, Err: err}
}

func join[T fmt.Stringer](s []T) string {
	var b strings.Builder
	for i, v := range s {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(v.String())
	}
	return b.String()
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// RouteError says that another link has a route to the same destination with the same metric. It is fs.ErrExist to errors.Is.
type RouteError struct {
	Route Route
	NetNS string // path of the pod's namespace; empty: the node's
}

// Error names the route and the way out.
func (e *RouteError) Error() string {
	where := "the node"
	if e.NetNS != "" {
		where = e.NetNS
	}
	return fmt.Sprintf("%s has another route to %s of the same metric (give this one a metric of its own)", where, e.Route.To)
}

// Is reports whether target is fs.ErrExist.
func (e *RouteError) Is(target error) bool { return target == fs.ErrExist }
