package ipvs

import (
	"errors"
	"fmt"
)

var (
	// ErrNoIPVS says that the kernel has no IPVS. It Is errors.ErrUnsupported.
	ErrNoIPVS error = noIPVS{}

	// ErrNoScheduler says that the kernel has no scheduler of the service's name, nor a module for it.
	ErrNoScheduler = errors.New("the kernel has no such scheduler")

	// ErrNoEngine says the same of the persistence engine.
	ErrNoEngine = errors.New("the kernel has no such persistence engine")

	// ErrStale says that the kernel no longer has what the plan was made from. Nothing was changed: plan again.
	ErrStale = errors.New("the kernel's services changed since the plan was made")

	// ErrUnstable says that others changed the same services again and again, each time before what was read of them could be changed.
	ErrUnstable = errors.New("others kept changing the same services")

	// ErrNotOwned says that a service is outside of Config.Owns.
	ErrNotOwned = errors.New("not among the services that this client owns")
)

type noIPVS struct{}

func (noIPVS) Error() string { return "this kernel has no IPVS (modprobe ip_vs)" }

func (noIPVS) Is(target error) bool { return target == errors.ErrUnsupported }

// OpError is the error of one operation on one object. Depending on the cause it Is fs.ErrNotExist (no such service, destination, scheduler
// or engine), fs.ErrExist, fs.ErrPermission or errors.ErrUnsupported.
type OpError struct {
	Op     string // new, read, plan, sync; or what was asked of the kernel: add, change, remove
	Object string // a Key, or "KEY -> DESTINATION"; empty when there is no single one
	Err    error
}

func (e *OpError) Error() string {
	if e.Object == "" {
		return fmt.Sprintf("ipvs: %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("ipvs: %s %s: %v", e.Op, e.Object, e.Err)
}

func (e *OpError) Unwrap() error { return e.Err }
