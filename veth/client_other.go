//go:build !linux

package veth

import (
	"context"
	"errors"
)

type kernel struct{}

type observation struct {
	state        State
	obstacles    []error
	foreignPorts map[string][]string
}

func openKernel(Config, string) (*kernel, error) { return nil, errors.ErrUnsupported }

func (*kernel) close() error { return errors.ErrUnsupported }

func (*kernel) observe(context.Context, State, extent) (*observation, error) {
	return nil, errors.ErrUnsupported
}

func (*kernel) execute(context.Context, *observation, Plan, *journal) error {
	return errors.ErrUnsupported
}

func (*kernel) attach(context.Context, *Pair, *struct{}, bool, *journal) error {
	return errors.ErrUnsupported
}

func (*kernel) detach(context.Context, []string) error { return errors.ErrUnsupported }

func (*kernel) detachGroup(context.Context, uint32) error { return errors.ErrUnsupported }

func (*kernel) attachments(context.Context, string) ([]string, error) {
	return nil, errors.ErrUnsupported
}

func (*kernel) mac(context.Context, string) (MAC, error) { return MAC{}, errors.ErrUnsupported }

func (*kernel) announceAll(context.Context, []announcement) error { return errors.ErrUnsupported }

func (*kernel) announceState(context.Context, State) error { return errors.ErrUnsupported }
