//go:build !linux

package nstest

import "errors"

func hairpin(string) error { return errors.ErrUnsupported }
