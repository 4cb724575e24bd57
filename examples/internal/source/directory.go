package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

const (
	settle = 10 * time.Millisecond  // several files are often written at once
	most   = 30 * time.Millisecond  // for which changes wait when there are always more
	hold   = 200 * time.Millisecond // for which a file is left as it was while it is always written
	empty  = 100 * time.Millisecond // after which a file without content is one, and not one whose content is still to be written
	again  = 5 * time.Second        // for file systems that do not tell of changes
)

// Directory is a directory of manifests, or one file.
type Directory string

// Run implements Source.
func (d Directory) Run(ctx context.Context, scheme *runtime.Scheme, list []Kind, to Receiver) error {
	wanted, err := indexKinds(scheme, list)
	if err != nil {
		return err
	}
	if _, err := os.Stat(string(d)); err != nil {
		return err
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	defer watcher.Close()
	r := &reader{
		kinds: wanted, decoder: serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer(), scheme: scheme,
		files: map[string]*file{}, watch: watcher.Add,
	}
	state := map[id]runtime.Object{}
	first := true
	told := ""
	var latest time.Time // by when changes are read; zero when there are none
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := func() {
		if latest.IsZero() {
			latest = time.Now().Add(most)
		}
		timer.Reset(min(settle, time.Until(latest)))
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-watcher.Events:
			if !ok {
				return nil
			}
			wait()
			continue
		case err := <-watcher.Errors:
			to.Fault(err)
			wait()
			continue
		case <-timer.C:
		}
		next, faults := r.read(string(d))
		if text := fmt.Sprint(faults); text != told {
			told = text
			if faults != nil {
				to.Fault(faults)
			}
		}
		if changes := difference(state, next); first || len(changes) > 0 {
			to.Changed(changes)
		}
		state, first, latest = next, false, time.Time{}
		if r.unsettled {
			timer.Reset(settle)
		} else {
			timer.Reset(again)
		}
	}
}

// reader remembers what the files held when they could be read last.
type reader struct {
	kinds   kinds
	scheme  *runtime.Scheme
	decoder runtime.Decoder
	files   map[string]*file
	watch   func(string) error

	unsettled bool // a file may not be whole yet
}

type file struct {
	content []byte
	held    time.Time // since when what is there now was not taken; zero: it is
	objects map[id]runtime.Object
	fault   error
}

func (r *reader) read(root string) (map[id]runtime.Object, error) {
	r.unsettled = false
	var faults []error
	present := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) { // gone meanwhile: the next look will see it
				faults = append(faults, err)
			}
			return nil
		}
		hidden := path != root && entry.Name()[0] == '.'
		switch {
		case entry.IsDir() && hidden:
			return filepath.SkipDir
		case entry.IsDir():
			return r.watch(path)
		case hidden || path != root && !slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(path)):
			return nil
		case path == root:
			if err := r.watch(filepath.Dir(root)); err != nil { // of a file itself one learns nothing once it is replaced
				return err
			}
		}
		present[path] = true
		r.load(path)
		return nil
	})
	if err != nil {
		faults = append(faults, err)
	}
	maps.DeleteFunc(r.files, func(path string, _ *file) bool { return !present[path] })
	state, origin := map[id]runtime.Object{}, map[id]string{}
	for _, path := range slices.Sorted(maps.Keys(r.files)) {
		f := r.files[path]
		if f.fault != nil {
			faults = append(faults, fmt.Errorf("%s: %w", path, f.fault))
		}
		for i, object := range f.objects {
			if other, ok := origin[i]; ok {
				faults = append(faults, fmt.Errorf("%s: %s is in %s too; that one counts", path, i, other))
				continue
			}
			state[i], origin[i] = object, path
		}
	}
	return state, errors.Join(faults...)
}

// load reads a file unless it is as it was. Objects with a fault stay as they were, and so do those that are missing as long as there
// is a fault: one of them may be what it is about.
func (r *reader) load(path string) {
	f := r.files[path]
	if f == nil {
		f = &file{}
		r.files[path] = f
	}
	content, err := os.ReadFile(path)
	if err != nil {
		f.fault, f.content = err, nil
		return
	}
	if f.content != nil && bytes.Equal(content, f.content) {
		return
	}
	if f.content != nil && r.early(f, path, content) {
		r.unsettled = true
		return
	}
	f.content, f.held = content, time.Time{}
	objects, err := r.decode(content)
	if f.fault = err; err != nil {
		for i, object := range f.objects {
			if objects[i] == nil {
				objects[i] = object
			}
		}
	}
	f.objects = objects
}

// early says whether a file that changed may be about to change further: it is being written in place.
func (r *reader) early(f *file, path string, content []byte) bool {
	info, err := os.Stat(path)
	if err != nil {
		return true
	}
	age, now := time.Since(info.ModTime()), time.Now()
	if f.held.IsZero() {
		f.held = now
	}
	switch {
	case len(content) == 0 && len(f.content) > 0:
		return age < empty && now.Sub(f.held) < again // a clock that is wrong must not keep it for ever
	case info.Size() != int64(len(content)):
		return now.Sub(f.held) < again
	}
	return age < settle && now.Sub(f.held) < hold
}

// decode returns the objects of the documents without a fault, and the faults of the others.
func (r *reader) decode(content []byte) (map[id]runtime.Object, error) {
	objects := map[id]runtime.Object{}
	var faults []error
	documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for n := 1; ; n++ {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects, errors.Join(faults...)
		}
		if err != nil { // nothing can be read behind it
			return objects, errors.Join(append(faults, fmt.Errorf("document %d: %w", n, err))...)
		}
		if err := r.add(objects, document); err != nil {
			faults = append(faults, fmt.Errorf("document %d: %w", n, err))
		}
	}
}

func (r *reader) add(objects map[id]runtime.Object, document []byte) error {
	data, err := yaml.YAMLToJSON(document) // JSON is YAML
	if err != nil {
		return err
	}
	if data = bytes.TrimSpace(data); len(data) == 0 || bytes.Equal(data, []byte("null")) {
		return nil
	}
	object, gvk, err := r.decoder.Decode(data, nil, nil)
	if runtime.IsNotRegisteredError(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if list, ok := object.(*corev1.List); ok {
		for i := range list.Items {
			if err := r.add(objects, list.Items[i].Raw); err != nil {
				return fmt.Errorf("items[%d]: %w", i, err)
			}
		}
		return nil
	}
	if meta.IsListType(object) { // such as a ServiceList, whose items do not tell their kind
		return meta.EachListItem(object, func(item runtime.Object) error {
			known, _, err := r.scheme.ObjectKinds(item)
			if err != nil {
				return err
			}
			return r.keep(objects, item, known[0])
		})
	}
	return r.keep(objects, object, *gvk)
}

func (r *reader) keep(objects map[id]runtime.Object, object runtime.Object, gvk schema.GroupVersionKind) error {
	if _, ok := r.kinds[gvk]; !ok {
		return nil
	}
	i, err := r.kinds.id(object, gvk)
	if err != nil {
		return err
	}
	if i.name == "" {
		return fmt.Errorf("%s: metadata.name: is missing", i.kind.Kind)
	}
	if _, twice := objects[i]; twice {
		return fmt.Errorf("%s: is in the file twice", i)
	}
	objects[i] = object
	return nil
}
