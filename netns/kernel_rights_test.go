//go:build linux

package netns_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func init() { children["bound"] = bound }

// bound visits the namespace that it is in and tries the one of its third descriptor, without CAP_SYS_ADMIN.
func bound() error {
	own, err := netns.Current()
	if err != nil {
		return err
	}
	if _, err := own.Sysctl("net.ipv4.ip_forward"); err != nil {
		return err
	}
	for range 8 {
		if err := own.Do(func() error { return own.Do(func() error { return nil }) }); err != nil {
			return err
		}
	}
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	other, err := netns.Open("/proc/self/fd/3")
	if err != nil {
		return err
	}
	if err := other.Do(func() error { return nil }); !errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("another namespace was entered: %w", err)
	}
	fmt.Println(len(threads) < 16)
	return nil
}

// Who has CAP_NET_ADMIN alone can work in the namespace that it is in.
func TestDoInOwnNamespaceNeedsNoRight(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	ns := nstest.New(t)
	cmd := child("bound")
	cmd.ExtraFiles = []*os.File{os.NewFile(uintptr(dup(t, ns.Fd())), "namespace")}
	output := make(chan error, 1)
	var out []byte
	go func() {
		runtime.LockOSThread() // and the thread ends with the goroutine
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_SYS_ADMIN, 0, 0, 0); err != nil {
			output <- err
			return
		}
		var err error
		out, err = cmd.CombinedOutput()
		output <- err
	}()
	err := <-output
	require.NoError(t, cmd.ExtraFiles[0].Close())
	require.NoError(t, err, "%s", out)
	require.Equal(t, "true\n", string(out))
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	return fd
}
