package nstest

import (
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// leakWait is how long what ends by itself, such as a thread, may take.
const leakWait = 5 * time.Second

// threadSlack is how many threads the Go runtime may add during a test: it keeps those
// that it once needed, one for every goroutine that was in a system call at the same
// time. A thread that a test has lost shows as a goroutine or as a stranger as well.
const threadSlack = 64

// census is what a process holds.
type census struct {
	fds        map[string]string // number -> target
	goroutines map[string]string // number -> stack
	threads    int
	strangers  []string        // threads that are not in the namespace of the main thread
	mounts     map[string]bool // where namespaces are mounted: names and pins
}

func leaks(t testing.TB) {
	t.Helper()
	// A probe or a report file that comes later would look like a leak.
	_ = Probe(NetNS)
	_, _ = reportFile()
	before, err := count()
	if err != nil {
		t.Fatalf("count what the process holds: %v", err)
	}
	t.Cleanup(func() {
		var found []string
		for deadline := time.Now().Add(leakWait); ; time.Sleep(5 * time.Millisecond) {
			runtime.GC() // handles without owner close themselves; they are no leak of the kernel
			after, err := count()
			if err != nil {
				t.Errorf("count what the process holds: %v", err)
				return
			}
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

// goroutines returns the stacks of all goroutines.
func goroutines() map[string]string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	found := map[string]string{}
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		stack = strings.TrimPrefix(stack, "goroutine ")
		if strings.Contains(stack, "os/signal.loop(") {
			continue // package signal keeps it once it was used
		}
		number, _, _ := strings.Cut(stack, " ")
		found[number] = stack
	}
	return found
}

func count() (census, error) {
	c := census{goroutines: goroutines(), fds: map[string]string{}}
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
	for _, number := range slices.Sorted(maps.Keys(after.goroutines)) {
		if _, known := before.goroutines[number]; !known {
			found = append(found, "goroutine "+after.goroutines[number])
		}
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
