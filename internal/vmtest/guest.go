package vmtest

import (
	"os"
	"path/filepath"
)

// Guest turns the running program into the guest's init or modprobe when it was started as one of these, and then does not return.
// Call it first thing in main or TestMain of a program that calls Run.
func Guest() {
	switch {
	case os.Getpid() == 1 && os.Args[0] == "/init":
		runInit()
	case filepath.Base(os.Args[0]) == filepath.Base(guestProbe):
		os.Exit(runModprobe(os.Args[1:]))
	}
}
