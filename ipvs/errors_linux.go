package ipvs

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"
)

// kernelError is the kernel's refusal.
type kernelError struct {
	errno syscall.Errno
	text  string // its own words, if any
}

func (e *kernelError) Error() string {
	if e.text == "" {
		return e.errno.Error()
	}
	return e.text + ": " + e.errno.Error()
}

func (e *kernelError) Unwrap() error { return e.errno }

// Is maps ESRCH, IPVS's "no such service", to fs.ErrNotExist.
func (e *kernelError) Is(target error) bool {
	return target == fs.ErrNotExist && e.errno == unix.ESRCH
}

// explain puts what the errno means here before it.
func explain(cmd uint8, s *Service, e *kernelError) error {
	var permission error = e
	if e.errno == unix.EPERM {
		permission = fmt.Errorf("needs CAP_NET_ADMIN in the initial user namespace: %w", e)
	}
	switch cmd {
	case cmdNewService, cmdSetService:
		if e.errno == unix.ENOENT && s.Persistence.Engine != "" {
			return fmt.Errorf("%w (modprobe ip_vs_%s), or %w (modprobe ip_vs_pe_%s): %w", ErrNoScheduler, s.Scheduler, ErrNoEngine,
				s.Persistence.Engine, e)
		}
		if e.errno == unix.ENOENT {
			return fmt.Errorf("%w (modprobe ip_vs_%s): %w", ErrNoScheduler, s.Scheduler, e)
		}
		if e.errno == unix.ESRCH {
			return fmt.Errorf("no such service: %w", e)
		}
	case cmdDelService, cmdGetService:
		if e.errno == unix.ESRCH {
			return fmt.Errorf("no such service: %w", e)
		}
	case cmdNewDest, cmdSetDest, cmdDelDest:
		if e.errno == unix.ESRCH {
			return fmt.Errorf("no such service: %w", e)
		}
		if e.errno == unix.ENOENT {
			return fmt.Errorf("no such destination: %w", e)
		}
		if e.errno == unix.EINVAL && cmd != cmdDelDest {
			return fmt.Errorf("not the address of one machine here (where lo was never up, no IPv4 address is), or of another family beside a daemon: %w", e)
		}
	}
	return permission
}

// conflict reports whether the kernel refused because others changed the services meanwhile.
func conflict(cmd uint8, e *kernelError) bool {
	switch cmd {
	case cmdNewService, cmdNewDest:
		return e.errno == unix.EEXIST || e.errno == unix.ESRCH
	case cmdSetService, cmdDelService:
		return e.errno == unix.ESRCH
	case cmdSetDest, cmdDelDest:
		return e.errno == unix.ESRCH || e.errno == unix.ENOENT
	}
	return false
}

// opError names what failed in the way of the public methods; nil stays nil.
func opError(op, object string, err error) error {
	if err == nil {
		return nil
	}
	var done *OpError // from here on: its place is on the heap
	if errors.As(err, &done) {
		return err
	}
	var kernel *kernelError
	if errors.As(err, &kernel) && kernel.errno == unix.EPERM {
		err = explain(0, nil, kernel)
	}
	return &OpError{Op: op, Object: object, Err: err}
}
