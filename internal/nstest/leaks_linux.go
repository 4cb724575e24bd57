package nstest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"
)

// leakWait is how long what ends by itself, such as a thread, may take.
const leakWait = 5 * time.Second

// threadSlack is how many threads the Go runtime may add during a test: it keeps those that it
// once needed, one for every goroutine that was in a system call at the same time. A thread
// that a test has lost shows as a goroutine or as a stranger as well.
const threadSlack = 64

// census is what a process holds.
type census struct {
	fds        map[string]string // number -> target
	goroutines int
	threads    int
	strangers  []string        // threads that are not in the namespace of the main thread
	mounts     map[string]bool // where namespaces are mounted: names and pins
}

func leaks(t testing.TB) {
	t.Helper()
	// A probe or a report file that comes later would look like a leak.
	_ = Probe(NetNS)
	_, _ = reportFile()
	before, err := countCalm()
	if err != nil {
		t.Fatalf("count what the process holds: %v", err)
	}
	t.Cleanup(func() {
		var found []string
		var lasting map[string]bool
		for deadline := time.Now().Add(leakWait); ; time.Sleep(5 * time.Millisecond) {
			runtime.GC() // handles without owner close themselves; they are no leak of the kernel
			after, err := count()
			if err != nil {
				t.Errorf("count what the process holds: %v", err)
				return
			}
			// Tests of other packages make names at the same time; only one that stays can be ours.
			if lasting == nil {
				lasting = after.mounts
			}
			maps.DeleteFunc(lasting, func(path string, _ bool) bool { return !after.mounts[path] })
			after.mounts = lasting
			if found = before.missing(after); len(found) == 0 {
				return
			}
			if time.Now().After(deadline) {
				break
			}
		}
		for _, leak := range found {
			t.Errorf("leak: %s", leak)
		}
	})
}

// countCalm counts when what earlier tests left behind has ended: their goroutines would
// hide as many new ones.
func countCalm() (census, error) {
	last, err := count()
	for range 50 {
		time.Sleep(time.Millisecond)
		c, nextErr := count()
		if err != nil || nextErr != nil {
			return c, errors.Join(err, nextErr)
		}
		if c.goroutines == last.goroutines && len(c.fds) == len(last.fds) {
			return c, nil
		}
		last = c
	}
	return last, err
}

func count() (census, error) {
	c := census{goroutines: runtime.NumGoroutine(), fds: map[string]string{}}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return c, err
	}
	for _, entry := range entries {
		target, err := os.Readlink("/proc/self/fd/" + entry.Name())
		if err != nil || strings.HasPrefix(target, "anon_inode:[event") {
			continue // the directory itself; the runtime's poller
		}
		c.fds[entry.Name()] = target
	}
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		return c, err
	}
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return c, err
	}
	for _, task := range tasks {
		c.threads++
		at, err := os.Readlink("/proc/self/task/" + task.Name() + "/ns/net")
		if err == nil && at != home {
			c.strangers = append(c.strangers, task.Name()+" in "+at)
		}
	}
	c.mounts, err = mountedNamespaces()
	return c, err
}

// mountedNamespaces returns where network namespaces are mounted, from mountinfo (proc(5)).
func mountedNamespaces() (map[string]bool, error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for line := range strings.Lines(string(info)) {
		if f := strings.Fields(line); len(f) > 4 && strings.HasPrefix(f[3], "net:[") {
			found[f[4]] = true
		}
	}
	return found, nil
}

// missing says what after has that before had not.
func (before census) missing(after census) []string {
	var found []string
	if extra := len(after.fds) - len(before.fds); extra > 0 {
		var list []string
		for fd, target := range after.fds {
			if before.fds[fd] != target {
				list = append(list, fd+" -> "+target)
			}
		}
		slices.Sort(list)
		found = append(found, fmt.Sprintf("%d file descriptors more; new ones: %s", extra, strings.Join(list, ", ")))
	}
	if after.goroutines > before.goroutines {
		var stacks bytes.Buffer
		_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
		found = append(found, fmt.Sprintf("%d goroutines, %d before:\n%s", after.goroutines, before.goroutines, &stacks))
	}
	if len(after.strangers) > len(before.strangers) {
		found = append(found, "threads in a foreign namespace: "+strings.Join(after.strangers, ", "))
	}
	if after.threads > before.threads+threadSlack {
		found = append(found, fmt.Sprintf("%d threads, %d before", after.threads, before.threads))
	}
	for _, path := range slices.Sorted(maps.Keys(after.mounts)) {
		if !before.mounts[path] {
			found = append(found, "a namespace is mounted on "+path)
		}
	}
	return found
}
