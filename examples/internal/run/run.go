package run

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"

	"github.com/podplumb/podplumb/netns"
)

// Dir is where runs keep their locks and logs.
const Dir = "/run/podplumb"

const lockFile = "lock"

// Errors of Start.
var (
	ErrRunning = errors.New("is running in another process")
	ErrKept    = errors.New("was kept by an earlier run and is still there")
)

// Run is a run under way. Only one with the same name exists on a machine at a time.
type Run struct {
	Name string

	lock *os.File // held for the length of the run; says "kept" when the run is over but its traces are to stay
	kept bool
}

var validName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,30}[a-z0-9])?$`)

// Start begins a run and removes what a killed run of the same name has left behind.
func Start(name string) (*Run, Removed, error) {
	r, kept, err := open(name)
	if err != nil {
		return nil, Removed{}, err
	}
	if kept {
		_ = r.lock.Close()
		return nil, Removed{}, fmt.Errorf("%q %w", name, ErrKept)
	}
	removed, err := r.remove()
	if err != nil {
		_ = r.lock.Close()
		return nil, removed, err
	}
	return r, removed, nil
}

// Down removes everything that a run has left, kept or not. A run that is under way gives ErrRunning.
func Down(name string) (Removed, error) {
	r, _, err := open(name)
	if err != nil {
		return Removed{}, err
	}
	return r.End()
}

func open(name string) (r *Run, kept bool, err error) {
	if !validName.MatchString(name) {
		return nil, false, fmt.Errorf("the name %q is not made of up to 32 lower-case letters, digits and dashes", name)
	}
	r = &Run{Name: name}
	for {
		if err := os.MkdirAll(r.Path(), 0o755); err != nil {
			return nil, false, err
		}
		file, err := os.OpenFile(filepath.Join(r.Path(), lockFile), os.O_RDWR|os.O_CREATE, 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			continue // the directory went away between the two calls
		}
		if err != nil {
			return nil, false, err
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
			_ = file.Close()
			return nil, false, fmt.Errorf("%q %w", name, ErrRunning)
		}
		// A lock on a file that its last owner has deleted is worth nothing.
		mine, err1 := file.Stat()
		there, err2 := os.Stat(file.Name())
		if err1 != nil || err2 != nil || !os.SameFile(mine, there) {
			_ = file.Close()
			continue
		}
		content := make([]byte, 4)
		n, _ := file.Read(content)
		r.lock = file
		return r, string(content[:n]) == "kept", nil
	}
}

// Path is the directory of the run's files.
func (r *Run) Path() string { return filepath.Join(Dir, r.Name) }

// Prefix is how the names of the run's namespaces begin.
func (r *Run) Prefix() string { return "podplumb-" + r.Name + "." }

// NetNS makes a named namespace with a loopback device that is up. Namespaces of a run that are still open when it ends are
// the caller's to close.
func (r *Run) NetNS(name string) (*netns.NS, error) {
	ns, err := netns.Create(r.Prefix() + short(name))
	if err != nil {
		return nil, err
	}
	if err := ns.LoopbackUp(); err != nil {
		_ = ns.Close()
		return nil, err
	}
	return ns, nil
}

// longest is how many bytes of a name are kept. Files may have 255, but the alias of a pod's link has to hold the path of its
// namespace and more in as many.
const longest = 120

// short is name, or its beginning and a hash of it all when it is too long; Kubernetes allows 253 bytes.
func short(name string) string {
	if len(name) <= longest {
		return name
	}
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%x", name[:longest-17], sum[:8])
}

// Log opens the file that the output of a process goes to.
func (r *Run) Log(name string) (*os.File, error) {
	return os.OpenFile(r.LogPath(name), os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
}

// LogPath is the path of the file that Log opens.
func (r *Run) LogPath(name string) string {
	return filepath.Join(r.Path(), short(strings.ReplaceAll(name, "/", "."))+".log")
}

// Keep lets everything stay when the run ends.
func (r *Run) Keep() error {
	if _, err := r.lock.WriteAt([]byte("kept"), 0); err != nil {
		return err
	}
	r.kept = true
	return nil
}

// End ends the run. It removes everything, unless Keep has been called.
func (r *Run) End() (Removed, error) {
	defer r.lock.Close()
	if r.kept {
		return Removed{}, nil
	}
	removed, err := r.remove()
	if err != nil {
		return removed, err
	}
	// The lock's file goes last, while the lock is held.
	if err := os.RemoveAll(r.Path()); err != nil {
		return removed, err
	}
	_ = os.Remove(Dir) // stays while other runs have their directories in it
	return removed, nil
}
