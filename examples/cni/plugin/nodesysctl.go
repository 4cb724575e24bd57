package plugin

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/plainfile"
	"github.com/podplumb/podplumb/netns"
)

// setNode turns on switches of the node that are off. They stay on: other programs may rely on them by the time a container goes.
func setNode(sysctls map[string]string) error {
	return eachNode(sysctls, func(name, want, have string) error {
		if have == want {
			return nil
		}
		ns, err := netns.Current()
		if err != nil {
			return err
		}
		return errors.Join(ns.SetSysctl(name, want), ns.Close())
	})
}

// checkNode names the switches that are no longer as they should be.
func checkNode(sysctls map[string]string) error {
	return eachNode(sysctls, func(name, want, have string) error {
		if have == want {
			return nil
		}
		return fmt.Errorf("sysctl %s is %s instead of %s", name, have, want)
	})
}

func eachNode(sysctls map[string]string, fn func(name, want, have string) error) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(sysctls)) {
		// No thread has to visit the namespace that all are in.
		text, err := plainfile.Read("/proc/sys/" + strings.ReplaceAll(name, ".", "/"))
		have := strings.TrimSpace(string(text))
		if err == nil {
			err = fn(name, sysctls[name], have)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
