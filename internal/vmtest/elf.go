package vmtest

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// linker finds the shared libraries of programs the way ld.so does, without running them.
type linker struct {
	dirs  []string          // where libraries are looked for, in order
	found map[string]string // soname to path
}

// Debian's loader has these compiled in; libraries found elsewhere are announced to the guest by LD_LIBRARY_PATH.
var builtinDirs = []string{"/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64", "/lib", "/usr/lib"}

func newLinker() *linker {
	return &linker{dirs: append(slices.Clone(builtinDirs), linkerConf("/etc/ld.so.conf", 0)...), found: map[string]string{}}
}

// linkerConf reads the folders that an ld.so.conf file names, following its include lines.
func linkerConf(file string, depth int) []string {
	data, err := os.ReadFile(file)
	if err != nil || depth > 4 {
		return nil
	}
	var dirs []string
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if pattern, ok := strings.CutPrefix(line, "include "); ok {
			files, _ := filepath.Glob(strings.TrimSpace(pattern))
			for _, f := range files {
				dirs = append(dirs, linkerConf(f, depth+1)...)
			}
		} else if filepath.IsAbs(line) {
			dirs = append(dirs, line)
		}
	}
	return dirs
}

// files returns the program, its interpreter and all libraries that it needs, directly or not. A file that is not ELF stands
// alone.
func (l *linker) files(program string) ([]string, error) {
	out := []string{program}
	for i := 0; i < len(out); i++ {
		needs, err := l.needs(out[i])
		if err != nil {
			return nil, err
		}
		for _, n := range needs {
			if !slices.Contains(out, n) {
				out = append(out, n)
			}
		}
	}
	return out, nil
}

// needs returns the interpreter and the libraries that one file names.
func (l *linker) needs(file string) ([]string, error) {
	f, err := elf.Open(file)
	var format *elf.FormatError
	if errors.As(err, &format) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, nil // a script, say
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out []string
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			name := make([]byte, p.Filesz)
			if _, err := p.ReadAt(name, 0); err != nil {
				return nil, fmt.Errorf("%s: interpreter: %w", file, err)
			}
			out = append(out, strings.TrimRight(string(name), "\x00"))
		}
	}
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	var own []string
	for _, tag := range []elf.DynTag{elf.DT_RPATH, elf.DT_RUNPATH} {
		paths, _ := f.DynString(tag)
		for _, p := range paths {
			own = append(own, strings.Split(strings.ReplaceAll(p, "$ORIGIN", filepath.Dir(file)), ":")...)
		}
	}
	for _, name := range libraries {
		library, err := l.find(name, own)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		out = append(out, library)
	}
	return out, nil
}

func (l *linker) find(name string, own []string) (string, error) {
	if filepath.IsAbs(name) {
		return name, nil
	}
	if p, ok := l.found[name]; ok {
		return p, nil
	}
	for _, dir := range append(slices.Clone(own), l.dirs...) {
		p := filepath.Join(dir, name)
		if f, err := elf.Open(p); err == nil {
			match := f.Machine == elf.EM_X86_64
			f.Close()
			if match {
				l.found[name] = p
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("shared library %s not found", name)
}

// libraryPath is the LD_LIBRARY_PATH that the libraries found so far need.
func (l *linker) libraryPath() string {
	var dirs []string
	for _, p := range l.found {
		if dir := filepath.Dir(p); !slices.Contains(builtinDirs, dir) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs)
	return strings.Join(dirs, ":")
}
