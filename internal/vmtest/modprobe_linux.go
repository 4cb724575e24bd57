package vmtest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// runModprobe loads what the arguments name, as the kernel calls it: modprobe -q -- ALIAS. It exits with 1 when something could not
// be loaded and keeps quiet about unknown aliases with -q.
func runModprobe(args []string) int {
	quiet := false
	var names []string
	for _, a := range args {
		switch {
		case a == "-q" || a == "--quiet":
			quiet = true
		case strings.HasPrefix(a, "-"):
		case strings.Contains(a, "="): // a parameter for the module
		default:
			names = append(names, a)
		}
	}
	f, err := os.Open(guestIndex)
	if err != nil {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
		return 1
	}
	defer f.Close()
	tree, err := readIndex(f)
	if err != nil {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
		return 1
	}
	status := 0
	for _, name := range names {
		if err := loadModules(tree.resolve(name)); err != nil {
			status = 1
			if !quiet || !errors.Is(err, errNoModule) {
				fmt.Fprintf(os.Stderr, "modprobe: %s: %v\n", name, err)
			}
		}
	}
	return status
}

var errNoModule = errors.New("no such module in this guest")

func loadModules(order []module) error {
	if len(order) == 0 {
		return errNoModule
	}
	for _, m := range order {
		f, err := os.Open(m.path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}
