package nstest

import (
	"fmt"
	"os/exec"

	"github.com/podplumb/podplumb/netns"
)

// probe tries f in a namespace of its own.
func probe(f Feature) error {
	if name, ok := f.tool(); ok {
		_, err := exec.LookPath(name)
		return err
	}
	if unprivileged != nil {
		return unprivileged
	}
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	try, ok := tries[f]
	if !ok {
		return fmt.Errorf("no feature has this name")
	}
	if try == nil {
		return nil
	}
	return ns.Do(try)
}
