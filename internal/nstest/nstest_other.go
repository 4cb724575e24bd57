//go:build !linux

package nstest

import (
	"errors"
	"testing"
)

func runMain(m *testing.M) int { return m.Run() }
func loopbackUp() error        { return errors.ErrUnsupported }
func probe(Feature) error      { return errors.ErrUnsupported }
func leaks(testing.TB)         {}
