package rtnl

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrDumpInterrupted says that a dump was interrupted by concurrent changes each time it was tried.
var ErrDumpInterrupted = errors.New("the kernel's table kept changing while it was read; try again when fewer writers are active")

// ErrOverflow says that events came faster than they were read and some are lost: read the whole state again.
var ErrOverflow = errors.New("netlink events were lost")

// Error is the kernel's refusal of a request.
type Error struct {
	Errno   syscall.Errno
	Message string // extended acknowledgement of the kernel, may be empty
}

// Error returns the kernel's own words, or the errno's when it gave none.
func (e *Error) Error() string {
	if e.Message == "" {
		return e.Errno.Error()
	}
	return e.Message + ": " + e.Errno.Error()
}

// Unwrap returns the errno.
func (e *Error) Unwrap() error { return e.Errno }

// Is maps the errnos that rtnetlink uses for "no such object" to fs.ErrNotExist; the standard library knows only ENOENT.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		switch e.Errno {
		case unix.ENODEV, unix.ESRCH, unix.ENXIO, unix.EADDRNOTAVAIL:
			return true
		}
	case errors.ErrUnsupported:
		return e.Errno == unix.EAFNOSUPPORT || e.Errno == unix.EPROTONOSUPPORT
	}
	return false
}

// parseError decodes the payload of an NLMSG_ERROR or NLMSG_DONE message; nil means success.
func parseError(h *unix.NlMsghdr, data []byte) error {
	if len(data) < 4 {
		return nil
	}
	errno := int32(binary.NativeEndian.Uint32(data))
	if errno == 0 {
		return nil
	}
	e := &Error{Errno: syscall.Errno(-errno)}
	if h.Flags&unix.NLM_F_ACK_TLVS == 0 {
		return e
	}
	tlvs := data[4:]
	if h.Type == unix.NLMSG_ERROR {
		if len(tlvs) < unix.SizeofNlMsghdr {
			return e
		}
		skip := unix.SizeofNlMsghdr
		if h.Flags&unix.NLM_F_CAPPED == 0 {
			skip = align(int(binary.NativeEndian.Uint32(tlvs)))
		}
		if skip < 0 || skip > len(tlvs) {
			return e
		}
		tlvs = tlvs[skip:]
	}
	for kind, value := range attrs(tlvs) {
		if kind == unix.NLMSGERR_ATTR_MSG {
			e.Message = cstring(value)
		}
	}
	return e
}
