package run

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/netns"
)

// Removed counts what was found and removed.
type Removed struct {
	Processes  int
	Namespaces int

	// Inside names processes of others, such as shells, that are still in one of the namespaces. They are left alone, and
	// the kernel keeps the namespace, now without a name, until they end.
	Inside []string
}

// Any tells whether anything was there.
func (r Removed) Any() bool { return r.Processes+r.Namespaces > 0 }

func (r Removed) String() string {
	return fmt.Sprintf("%s and %s", plural(r.Namespaces, "namespace"), plural(r.Processes, "process"))
}

func plural(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		what += "e"
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// remove removes the run's processes, then its namespaces and logs. The lock stays.
func (r *Run) remove() (Removed, error) {
	var removed Removed
	var err error
	if removed.Processes, err = killMarked(r.Name); err != nil {
		return removed, err
	}
	// Read the directory: netns.List leaves out names that a killed process has half made.
	entries, err := os.ReadDir(netns.RunDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return removed, err
	}
	var faults []error
	ids := map[string]string{} // nsfs link to name
	for _, entry := range entries {
		name, ok := strings.CutPrefix(entry.Name(), r.Prefix())
		if !ok {
			continue
		}
		if ns, err := netns.OpenName(entry.Name()); err == nil {
			if id, err := ns.ID(); err == nil {
				ids[id.String()] = name
			}
			_ = ns.Close()
		}
		if err := netns.Remove(entry.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, err)
			continue
		}
		removed.Namespaces++
	}
	removed.Inside = inside(ids)
	faults = append(faults, r.removeEtc())
	files, _ := filepath.Glob(filepath.Join(r.Path(), "*")) // the pattern is well formed
	for _, file := range files {
		if filepath.Base(file) == lockFile {
			continue
		}
		if err := os.RemoveAll(file); err != nil {
			faults = append(faults, err)
		}
	}
	return removed, errors.Join(faults...)
}

// killMarked kills every process that carries the run's marker and returns how many there were.
func killMarked(name string) (int, error) {
	const rounds = 20 // a process may fork while we look; its child is found in the next round
	count := 0
	for range rounds {
		killed, err := killRound(name)
		count += killed
		if killed == 0 || err != nil {
			return count, err
		}
	}
	return count, fmt.Errorf("processes of %q start faster than they can be killed", name)
}

func killRound(name string) (int, error) {
	pids, err := processes()
	if err != nil {
		return 0, err
	}
	marker := []byte(container.Marker + "=" + name)
	var killed []int
	defer func() {
		for _, fd := range killed {
			_ = unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		// The descriptor pins the process: should it end now, its number cannot lead to another one.
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // it has ended
		}
		environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(v []byte) bool { return bytes.Equal(v, marker) }) {
			_ = unix.Close(fd)
			continue
		}
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			_ = unix.Close(fd)
			return len(killed), fmt.Errorf("kill process %d: %w", pid, err)
		}
		killed = append(killed, fd)
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, fd := range killed { // a pidfd is readable when the process has ended
		poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(poll, max(0, int(time.Until(deadline).Milliseconds())))
			if n > 0 {
				break
			}
			if !errors.Is(err, unix.EINTR) {
				return len(killed), fmt.Errorf("a killed process of %q does not end", name)
			}
		}
	}
	return len(killed), nil
}

// processes returns the ids of all processes but this one.
func processes() ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil && pid != os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// inside names the processes that are in one of the namespaces.
func inside(ids map[string]string) []string {
	if len(ids) == 0 {
		return nil
	}
	pids, _ := processes()
	var found []string
	for _, pid := range pids {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if name, ok := ids[link]; err == nil && ok {
			command, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
			found = append(found, fmt.Sprintf("process %d (%s) in %s", pid, strings.TrimSpace(string(command)), name))
		}
	}
	return found
}
