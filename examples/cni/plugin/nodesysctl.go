package plugin

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/netns"
)

// setNode turns on switches of the node that are off. They stay on: other programs may rely on them by the time a container goes.
func setNode(sysctls map[string]string) error {
	return eachNode(sysctls, func(ns *netns.NS, name, want, have string) error {
		if have == want {
			return nil
		}
		return ns.SetSysctl(name, want)
	})
}

// checkNode names the switches that are no longer as they should be.
func checkNode(sysctls map[string]string) error {
	return eachNode(sysctls, func(_ *netns.NS, name, want, have string) error {
		if have == want {
			return nil
		}
		return fmt.Errorf("sysctl %s is %s instead of %s", name, have, want)
	})
}

func eachNode(sysctls map[string]string, fn func(ns *netns.NS, name, want, have string) error) (err error) {
	if len(sysctls) == 0 {
		return nil
	}
	ns, err := netns.Current()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		// No thread has to visit the namespace that all are in.
		text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		have := strings.TrimSpace(string(text))
		if err == nil {
			err = fn(ns, name, sysctls[name], have)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
