package nstest

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// tries holds how each feature is tried, by a function that runs in a fresh
// namespace. nil: the namespace itself was the trial.
var tries = map[Feature]func() error{
	NetNS: nil,
	Root:  tryRoot,
	IPv6:  func() error { _, err := os.Stat("/proc/thread-self/net/if_inet6"); return err },
}

func tryRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the user id is %d", os.Geteuid())
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(m)); len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295" {
		return errors.New("this is a user namespace")
	}
	return nil
}
