package record

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/cni/jsonlite"
	"github.com/podplumb/podplumb/examples/cni/plainfile"
)

// Store is a directory that holds the files of all networks of a node:
//
//	NETWORK/attachments/CONTAINER@INTERFACE
//	NETWORK/leases/
//	.node/
type Store struct{ Dir string }

// nodeDir holds what the networks share. No network is named so: a network's name begins with a letter or digit.
const nodeDir = ".node"

// maxID is how long a container's ID can be for a file to be named after it.
const maxID = 200

func (s Store) attachments(network string) string {
	return filepath.Join(s.Dir, network, "attachments")
}

// Leases is the directory of a network's leases.
func (s Store) Leases(network string) string { return filepath.Join(s.Dir, network, "leases") }

// FileName names the file of an attachment within its network. A container's ID has no '@' in it.
func FileName(containerID, ifName string) string {
	if len(containerID) > maxID {
		containerID = fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(containerID)))
	}
	return containerID + "@" + strings.ReplaceAll(ifName, "/", "_")
}

// File is the open, locked file of an attachment. Close it soon: others wait.
type File struct {
	// Have is the last entry; nil when there is none.
	Have *Attachment

	file *os.File
	path string
}

// Create opens the file of an attachment, makes it if it is missing, and waits for its lock until ctx ends.
func (s Store) Create(ctx context.Context, k Key) (*File, error) {
	return s.open(ctx, k.Network, FileName(k.ContainerID, k.IfName), unix.O_CREAT)
}

// Open is Create for a file that exists; otherwise it fails with fs.ErrNotExist.
func (s Store) Open(ctx context.Context, k Key) (*File, error) {
	return s.OpenFile(ctx, k.Network, FileName(k.ContainerID, k.IfName))
}

// OpenFile opens a file that List has named.
func (s Store) OpenFile(ctx context.Context, network, name string) (*File, error) {
	return s.open(ctx, network, name, 0)
}

// LockFile is OpenFile without Read.
func (s Store) LockFile(ctx context.Context, network, name string) (*File, error) {
	return s.lock(ctx, network, name, 0)
}

func (s Store) open(ctx context.Context, network, name string, flags int) (*File, error) {
	f, err := s.lock(ctx, network, name, flags)
	if err != nil {
		return nil, err
	}
	if err := f.Read(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Read reads the last entry into Have. A file that OpenFile, Open or Create has opened is read already.
func (f *File) Read() (err error) {
	if f.Have, err = last(f.file); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

func (s Store) lock(ctx context.Context, network, name string, flags int) (*File, error) {
	path := filepath.Join(s.attachments(network), name)
	for {
		f, err := plainfile.Open(path, unix.O_RDWR|unix.O_APPEND|flags, 0o600)
		if err != nil {
			return nil, err
		}
		if err := plainfile.Lock(ctx, f); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		// Its holder may have removed it while we waited.
		if same, err := current(f, path); err != nil || !same {
			if err = errors.Join(err, f.Close()); err != nil {
				return nil, err
			}
			continue
		}
		return &File{file: f, path: path}, nil
	}
}

func current(f *os.File, path string) (bool, error) {
	have, err := f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(have, there), err
}

// last returns the last entry that is whole; nil when none is.
func last(r io.Reader) (*Attachment, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	for b = b[:bytes.LastIndexByte(b, '\n')+1]; len(b) > 0; {
		begin := bytes.LastIndexByte(b[:len(b)-1], '\n') + 1
		a := &Attachment{}
		if jsonlite.Unmarshal(b[begin:], a) == nil {
			return a, nil
		}
		b = b[:begin]
	}
	return nil, nil
}

// Write appends an entry. A durable one survives a loss of power from when Write returns.
func (f *File) Write(a *Attachment, durable bool) error {
	b, err := jsonlite.Marshal(a)
	if err != nil {
		return err
	}
	// The newline before it ends an entry that a killed process left unfinished.
	line := append(append([]byte{'\n'}, b...), '\n')
	if _, err = f.file.Write(line); err != nil {
		return err
	}
	if durable {
		if err := unix.Fdatasync(int(f.file.Fd())); err != nil {
			return fmt.Errorf("fdatasync %s: %w", f.path, err)
		}
	}
	f.Have = a
	return nil
}

// Remove removes the file: there is no attachment.
func (f *File) Remove() error {
	f.Have = nil
	err := os.Remove(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// Close lets the next process in.
func (f *File) Close() error { return f.file.Close() }

// List names the files of a network's attachments.
func (s Store) List(network string) ([]string, error) {
	return names(s.attachments(network), -1)
}

// Others reports whether a network has an attachment besides k.
func (s Store) Others(k Key) (bool, error) {
	list, err := names(s.attachments(k.Network), 2)
	if err != nil || len(list) == 0 {
		return false, err
	}
	return len(list) > 1 || list[0] != FileName(k.ContainerID, k.IfName), nil
}

// Networks names the networks that have files.
func (s Store) Networks() ([]string, error) {
	list, err := names(s.Dir, -1)
	var out []string
	for _, n := range list {
		if n != nodeDir {
			out = append(out, n)
		}
	}
	return out, err
}

func names(dir string, n int) ([]string, error) {
	d, err := plainfile.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	list, err := d.Readdirnames(n)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return list, errors.Join(err, d.Close())
}

// Peek reads the file of an attachment without its lock: what it says may be changing. It returns nil when there is no entry.
func (s Store) Peek(network, name string) (*Attachment, error) {
	f, err := plainfile.Open(filepath.Join(s.attachments(network), name), unix.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return last(f)
}

// All peeks at every attachment of the node except some.
func (s Store) All(except ...Key) ([]*Attachment, error) {
	left := map[[2]string]bool{}
	for _, k := range except {
		left[[2]string{k.Network, FileName(k.ContainerID, k.IfName)}] = true
	}
	networks, err := s.Networks()
	errs := []error{err}
	var out []*Attachment
	for _, n := range networks {
		files, err := s.List(n)
		errs = append(errs, err)
		for _, name := range files {
			if left[[2]string{n, name}] {
				continue
			}
			a, err := s.Peek(n, name)
			if errs = append(errs, err); a != nil {
				out = append(out, a)
			}
		}
	}
	return out, errors.Join(errs...)
}

// NodeFile is the path of a file that the networks share. Its directory is there while a lock of the node is held.
func (s Store) NodeFile(name string) string { return filepath.Join(s.Dir, nodeDir, name) }

// LockNode waits until no other process holds the node's lock of that name, and returns what releases it.
func (s Store) LockNode(ctx context.Context, name string) (unlock func() error, err error) {
	f, err := plainfile.Open(filepath.Join(s.Dir, nodeDir, name+".lock"), unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := plainfile.Lock(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f.Close, nil
}
