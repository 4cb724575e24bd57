package plugin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/veth"
)

// Codes of the specification that the types package has no name for, and this plugin's own from 100.
const (
	codeUnavailable  uint = 50  // STATUS: no ADD can succeed
	codeExhausted    uint = 51  // STATUS: nor can it before another container goes
	codePortTaken    uint = 100 // a host port belongs to another container
	codeAddressTaken uint = 101 // a requested address belongs to another container
	codeForeign      uint = 102 // a name or table belongs to someone else
	codeBridge       uint = 103 // the bridge has other addresses
	codeDamaged      uint = 104 // CHECK found something that is not as ADD made it
	codeUnsupported  uint = 105 // this kernel lacks something
	codeForbidden    uint = 106 // a right is missing
)

// coded is an error with a code of the specification.
type coded struct {
	code    uint
	err     error
	details string // what to do about it
}

func (e *coded) Error() string { return e.err.Error() }
func (e *coded) Unwrap() error { return e.err }

func fail(code uint, details, format string, args ...any) error {
	return &coded{code: code, details: details, err: fmt.Errorf(format, args...)}
}

func withCode(code uint, details string, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code: code, details: details, err: err}
}

// explain gives an error the code of its cause and says what to do about it.
func explain(err error) error {
	if err == nil {
		return nil
	}
	var done *types.Error
	if errors.As(err, &done) {
		return err
	}
	code, details := types.ErrInternal, ""
	var own *coded
	var foreign *veth.ForeignError
	var address *veth.AddressError
	var gone *veth.PodGoneError
	var route *veth.RouteError
	var conflict *nat.ConflictError
	var taken *record.PortTakenError
	switch {
	case errors.As(err, &own):
		code, details = own.code, own.details
	case errors.As(err, &taken):
		code, details = codePortTaken, "choose another hostPort, or remove the container that has it"
	case errors.Is(err, ipam.ErrTaken):
		code, details = codeAddressTaken, "ask for another address, or remove the container that has it"
	case errors.Is(err, ipam.ErrOutside):
		code, details = types.ErrInvalidNetworkConfig, "ask for an address of ipam.ranges"
	case errors.Is(err, ipam.ErrFull):
		code, details = types.ErrTryAgainLater, "remove containers, or give ipam.ranges another range"
	case errors.As(err, &address):
		code, details = codeBridge, "set forceAddress to replace them, or give the network another bridge"
	case errors.As(err, &foreign), errors.As(err, &route), errors.As(err, &conflict), errors.Is(err, nat.ErrForeign):
		code, details = codeForeign, "remove what has the name, or choose another"
	case errors.As(err, &gone):
		code, details = types.ErrUnknownContainer, "the container's network namespace went away meanwhile"
	case errors.Is(err, context.DeadlineExceeded):
		code, details = types.ErrTryAgainLater, "the node is very busy, or another process of the plugin hangs"
	case errors.Is(err, errors.ErrUnsupported):
		code, details = codeUnsupported, "load the kernel module that the message names, or leave the key out"
	case errors.Is(err, fs.ErrPermission):
		code, details = codeForbidden, "the plugin needs CAP_NET_ADMIN, CAP_SYS_ADMIN and CAP_NET_RAW"
	}
	return types.NewError(code, err.Error(), details)
}
