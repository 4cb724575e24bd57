package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/service"
)

const (
	settle1    = 50 * time.Millisecond // that long no event may come before files are read
	settleMost = time.Second           // but no longer than this are they left unread
	slowWrite  = 2 * time.Second       // that long a file that loses objects while it is written has to be still
	poll       = 10 * time.Second      // files are looked at after this time even without an event
)

// directory is a source of manifests: every .yaml, .yml and .json file below a path, which may be a symbolic link.
//
// Files may be replaced by renaming, the whole directory by moving a link (as in a volume of a ConfigMap), and a file may be
// written in place, slowly: what cannot be read is left as it was, and an object that vanishes from a file which is still
// the same file only goes when the file has been still for a while.
type directory struct {
	log  *slog.Logger
	path string
	self string // the node's name

	once  sync.Once
	known chan struct{} // closed when everything was read

	mu      sync.Mutex
	files   map[string]*manifestFile
	objects map[object]any
	told    map[string]bool // faults
}

// manifestFile is a file as it was last read.
type manifestFile struct {
	stamp   stamp
	objects map[object]any
	held    bool // it has lost objects that still count
}

// stamp tells a version of a file from another.
type stamp struct {
	dev, ino uint64
	size     int64
	changed  time.Time
}

func newDirectory(path, self string, log *slog.Logger) *directory {
	return &directory{log: log, path: path, self: self, known: make(chan struct{}), files: map[string]*manifestFile{}, objects: map[object]any{}, told: map[string]bool{}}
}

func (d *directory) ready() <-chan struct{} { return d.known }

func (d *directory) state() service.State {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s service.State
	for _, o := range d.objects {
		switch o := o.(type) {
		case *service.Service:
			s.Services = append(s.Services, *o)
		case *service.EndpointSlice:
			s.EndpointSlices = append(s.EndpointSlices, *o)
		case *service.Pod:
			s.Pods = append(s.Pods, *o)
		case *service.Node:
			s.Nodes = append(s.Nodes, *o)
		}
	}
	return s
}

func (d *directory) node() service.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	if n, ok := d.objects[object{"Node", service.Name{Name: d.self}}].(*service.Node); ok {
		return *n
	}
	return service.Node{Meta: service.Meta{Name: d.self}}
}

func (d *directory) run(ctx context.Context, in *inbox) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	d.watch(watcher) // before the first look, so that nothing falls between them
	if err := d.look(in); err != nil {
		return err
	}
	d.once.Do(func() { close(d.known) })
	timer := time.NewTimer(poll)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-watcher.Errors:
			d.log.Warn("watching the manifests", "err", err) // events may be lost: look
		case event := <-watcher.Events:
			if filepath.Dir(event.Name) == d.parent() && event.Name != filepath.Clean(d.path) && filepath.Dir(event.Name) != d.path {
				continue // of a neighbour of the directory
			}
			quiet(ctx, watcher)
		case <-timer.C:
		}
		d.watch(watcher)
		if err := d.look(in); err != nil {
			d.log.Error("the manifests cannot be read: they count as they were", "err", err)
		}
		timer.Reset(d.patience())
	}
}

// quiet waits until no more events come.
func quiet(ctx context.Context, watcher *fsnotify.Watcher) {
	most := time.NewTimer(settleMost)
	defer most.Stop()
	for {
		still := time.NewTimer(settle1)
		select {
		case <-ctx.Done():
			still.Stop()
			return
		case <-watcher.Events:
			still.Stop()
		case <-most.C:
			still.Stop()
			return
		case <-still.C:
			return
		}
	}
}

// parent is where the path itself may come to lead elsewhere.
func (d *directory) parent() string { return filepath.Dir(filepath.Clean(d.path)) }

// watch follows the directory, those below, and what links lead through.
func (d *directory) watch(watcher *fsnotify.Watcher) {
	want := map[string]bool{d.parent(): true}
	if target, err := filepath.EvalSymlinks(d.path); err == nil {
		_ = filepath.WalkDir(target, func(name string, entry fs.DirEntry, err error) error {
			if err == nil && entry.IsDir() {
				want[name] = true
			}
			return nil
		})
	}
	for _, name := range watcher.WatchList() {
		if !want[name] {
			_ = watcher.Remove(name) // it may be gone by itself
		}
	}
	for name := range want {
		if err := watcher.Add(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.tell("watching "+name, err)
		}
	}
}

// patience is how long to wait for an event.
func (d *directory) patience() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.files {
		if f.held {
			return slowWrite / 4
		}
	}
	return poll
}

// look reads the files that changed and tells the inbox what follows.
func (d *directory) look(in *inbox) error {
	names, err := d.list()
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, name := range names {
		d.read(name)
	}
	for name := range d.files {
		if !slices.Contains(names, name) {
			delete(d.files, name)
		}
	}
	all := map[object]any{}
	for _, name := range names {
		f := d.files[name]
		if f == nil {
			continue
		}
		for key, value := range f.objects {
			if _, twice := all[key]; twice {
				d.tell(name+": "+key.String(), errors.New("another file has it, which counts"))
				continue
			}
			all[key] = value
		}
	}
	before := d.objects
	d.objects = all
	var put []func(*batch)
	for key, value := range all {
		if !reflect.DeepEqual(before[key], value) {
			put = append(put, func(b *batch) { b.set(key, value) })
		}
	}
	for key := range before {
		if _, ok := all[key]; !ok {
			put = append(put, func(b *batch) { b.set(key, nil) })
		}
	}
	if len(put) > 0 {
		in.put(func(b *batch) {
			for _, f := range put {
				f(b)
			}
		})
	}
	return nil
}

// set takes in an object, or that it is gone.
func (b *batch) set(key object, value any) {
	switch key.kind {
	case "Service":
		b.services[key.name], _ = value.(*service.Service)
	case "EndpointSlice":
		b.slices[key.name], _ = value.(*service.EndpointSlice)
	case "Pod":
		b.pods[key.name], _ = value.(*service.Pod)
	case "Node":
		b.nodes[key.name.Name], _ = value.(*service.Node)
	}
}

// list returns the manifests below the path, in order. Names that begin with a dot are left out: editors and ConfigMap
// volumes keep there what is not meant to be read.
func (d *directory) list() ([]string, error) {
	root, err := filepath.EvalSymlinks(d.path)
	if err != nil {
		return nil, err
	}
	var names []string
	err = filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist) && name != root:
			return nil // it went while we looked
		case err != nil:
			return err
		case name != root && strings.HasPrefix(entry.Name(), "."):
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(filepath.Ext(name))):
			rel, err := filepath.Rel(root, name) // the same file after the link has moved
			names = append(names, rel)
			return err
		}
		return nil
	})
	return names, err
}

// read reads a file if it has changed. The caller holds the lock.
func (d *directory) read(name string) {
	f := d.files[name]
	path := filepath.Join(d.path, name)
	now, err := stampOf(path)
	if err != nil || f != nil && f.stamp == now && !f.held {
		return // it went while we looked, and the next look knows
	}
	data, err := os.ReadFile(path)
	if err != nil {
		d.tell(name, err)
		return
	}
	c := readManifest(name, data)
	for _, err := range c.faults {
		d.tell(name, err)
	}
	read := &manifestFile{stamp: now, objects: c.objects}
	if f != nil {
		same := f.stamp.dev == now.dev && f.stamp.ino == now.ino
		moving := same && time.Since(now.changed) < slowWrite
		for key, value := range f.objects {
			if _, ok := c.objects[key]; !ok && (moving || !c.whole || c.broken[key]) {
				read.objects[key] = value
				read.held = read.held || moving
			}
		}
	}
	if after, err := stampOf(path); err != nil || after != now {
		read.stamp, read.held = stamp{}, true // it was written meanwhile
	}
	d.files[name] = read
}

func stampOf(path string) (stamp, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return stamp{}, err
	}
	return stamp{dev: st.Dev, ino: st.Ino, size: st.Size, changed: time.Unix(st.Mtim.Unix())}, nil
}

// tell tells of a fault, once.
func (d *directory) tell(what string, err error) {
	if text := what + ": " + err.Error(); !d.told[text] {
		d.told[text] = true
		d.log.Error("passed over", "manifest", what, "err", err)
	}
}
