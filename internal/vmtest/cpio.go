package vmtest

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// File types of a cpio entry, as in stat(2).
const (
	modeRegular = 0o100000
	modeDir     = 0o040000
	modeSymlink = 0o120000
	modeChar    = 0o020000
)

// cpioWriter writes an archive in the "newc" format that the kernel unpacks as its first root file system
// (Documentation/driver-api/early-userspace/buffer-format.rst). Parent folders are added as needed and a path that was already
// written is left as it was, so callers may add overlapping sets of files.
type cpioWriter struct {
	w     *bufio.Writer
	seen  map[string]bool
	inode uint32
	err   error
}

func newCPIO(w io.Writer) *cpioWriter {
	return &cpioWriter{w: bufio.NewWriterSize(w, 1<<20), seen: map[string]bool{".": true}}
}

// clean turns an absolute path of the guest into the name that the archive uses.
func (c *cpioWriter) clean(name string) string {
	return strings.TrimPrefix(path.Clean("/"+name), "/")
}

// add reports whether name is new, after adding the folders above it.
func (c *cpioWriter) add(name string) bool {
	if c.seen[name] || name == "" {
		return false
	}
	if dir := path.Dir(name); !c.seen[dir] {
		c.dir(dir, 0o755)
	}
	c.seen[name] = true
	return true
}

func (c *cpioWriter) dir(name string, perm uint32) {
	if name = c.clean(name); c.add(name) {
		c.header(name, modeDir|perm, 0, 0, 0)
	}
}

func (c *cpioWriter) symlink(name, target string) {
	if name = c.clean(name); c.add(name) {
		c.header(name, modeSymlink|0o777, int64(len(target)), 0, 0)
		c.body(strings.NewReader(target), int64(len(target)))
	}
}

// device adds a character device.
func (c *cpioWriter) device(name string, perm, major, minor uint32) {
	if name = c.clean(name); c.add(name) {
		c.header(name, modeChar|perm, 0, major, minor)
	}
}

func (c *cpioWriter) bytes(name string, perm uint32, data []byte) {
	if name = c.clean(name); c.add(name) {
		c.header(name, modeRegular|perm, int64(len(data)), 0, 0)
		c.body(strings.NewReader(string(data)), int64(len(data)))
	}
}

// file copies the file at source, following symbolic links, keeping its permission bits.
func (c *cpioWriter) file(name, source string) error {
	if name = c.clean(name); c.seen[name] {
		return c.err
	}
	f, err := os.Open(source)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s: not a regular file", source)
	}
	c.add(name)
	c.header(name, modeRegular|uint32(info.Mode().Perm()), info.Size(), 0, 0)
	c.body(f, info.Size())
	return c.err
}

func (c *cpioWriter) header(name string, mode uint32, size int64, major, minor uint32) {
	if c.err != nil {
		return
	}
	if size > 1<<32-1 {
		c.err = fmt.Errorf("%s: %d bytes do not fit a cpio entry", name, size)
		return
	}
	c.inode++
	links := 1
	if mode&modeDir != 0 {
		links = 2
	}
	n, err := fmt.Fprintf(c.w, "070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		c.inode, mode, 0, 0, links, 0, size, 0, 0, major, minor, len(name)+1, 0, name)
	c.err = err
	c.pad(int64(n))
}

func (c *cpioWriter) body(r io.Reader, size int64) {
	if c.err != nil {
		return
	}
	if _, c.err = io.CopyN(c.w, r, size); c.err == nil {
		c.pad(size)
	}
}

// pad fills up to the four-byte boundary that follows n bytes.
func (c *cpioWriter) pad(n int64) {
	if c.err == nil {
		_, c.err = c.w.WriteString("\x00\x00\x00"[:(4-n%4)%4])
	}
}

func (c *cpioWriter) close() error {
	c.header("TRAILER!!!", 0, 0, 0, 0)
	if c.err != nil {
		return c.err
	}
	return c.w.Flush()
}
