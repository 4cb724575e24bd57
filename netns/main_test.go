package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/podplumb/podplumb/internal/nstest"
)

// envChild names what this test binary does instead of running its tests.
const envChild = "PODPLUMB_NETNS_CHILD"

// children are the programs that the tests start: this binary, in another role.
var children = map[string]func() error{
	"nothing": func() error { return nil },
	"rest":    func() error { time.Sleep(time.Minute); return nil },
	"look":    look,
}

// look prints where the process is and what it sees.
func look() error {
	for _, kind := range []string{"net", "mnt"} {
		link, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return err
		}
		fmt.Println(kind, link)
	}
	links, err := os.ReadDir("/sys/class/net")
	if err != nil {
		return err
	}
	for _, link := range links {
		fmt.Println("link", link.Name())
	}
	hosts, err := os.ReadFile("/etc/hosts")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	fmt.Printf("hosts %q\n", hosts)
	return nil
}

func TestMain(m *testing.M) {
	if child, ok := children[os.Getenv(envChild)]; ok {
		if err := child(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(nstest.Main(m))
}

// child returns a command that runs a child.
func child(name string, env ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(append(os.Environ(), envChild+"="+name), env...)
	return cmd
}
