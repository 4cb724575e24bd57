package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/manifest"
)

// teller is told all nodes of the cluster, or why they cannot be read. After an error the last nodes count on.
type teller func(nodes []corev1.Node, err error)

// settle is how long a directory has to be left alone before it is read: an editor or a copy touches it several times.
const settle = 50 * time.Millisecond

// watchFiles tells the nodes that are declared in a file or directory: at once, and after each change, until ctx ends.
func watchFiles(ctx context.Context, path string, tell teller) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	defer watcher.Close()
	// A file that is replaced is a new file, and a mounted ConfigMap is a link that is turned: both are seen in the directory alone.
	dir := path
	if !info.IsDir() {
		dir = filepath.Dir(path)
	}
	if err := watchTree(watcher, dir, info.IsDir()); err != nil {
		return fmt.Errorf("watch %s: %w", dir, err)
	}
	tell(readFiles(path))
	changed := time.NewTimer(time.Hour)
	changed.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-watcher.Events:
			if !open {
				return errors.New("the watch has ended")
			}
			if event.Has(fsnotify.Create) && info.IsDir() {
				_ = watchTree(watcher, event.Name, true) // one that has gone again is of no interest
			}
			changed.Reset(settle)
		case err := <-watcher.Errors: // events were lost
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				return fmt.Errorf("watch %s: %w", dir, err)
			}
			changed.Reset(settle)
		case <-changed.C:
			tell(readFiles(path))
		}
	}
}

// watchTree adds a directory, and with deep those below it.
func watchTree(watcher *fsnotify.Watcher, dir string, deep bool) error {
	return filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case !entry.IsDir():
			return nil
		case name != dir && !deep:
			return fs.SkipDir
		}
		return watcher.Add(name)
	})
}

func readFiles(path string) ([]corev1.Node, error) {
	set, err := manifest.Read(os.DirFS(filepath.Dir(path)), filepath.Base(path))
	return set.Nodes, err
}
