package vmtest

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of Run and Fetch; test for them with errors.Is.
var (
	ErrBoot    = errors.New("the guest did not boot in time")
	ErrTimeout = errors.New("the guest ran out of time")
	ErrPanic   = errors.New("the guest's kernel stopped before the jobs ended")
)

// MissingError names the programs that are not there and the Debian packages that have them.
type MissingError struct {
	Programs []string
	Packages []string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("vmtest: %s not found: apt-get install --no-install-recommends %s",
		strings.Join(e.Programs, ", "), strings.Join(e.Packages, " "))
}

// guestError is a failure of the guest with what its console said last.
type guestError struct {
	err     error
	detail  string
	console string
}

func (e *guestError) Error() string {
	msg := "vmtest: " + e.err.Error()
	if e.detail != "" {
		msg += ": " + e.detail
	}
	if e.console != "" {
		msg += "\nlast words of the guest's console:\n" + e.console
	}
	return msg
}

func (e *guestError) Unwrap() error { return e.err }

var (
	errSignal = errors.New("the job was ended by a signal")
	errExit   = errors.New("the job failed with exit code")
	errInit   = errors.New("the guest could not be set up")
)
