package vmtest

import (
	"bufio"
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// module is what one .ko file says about itself in its .modinfo section.
type module struct {
	name    string   // with underscores
	path    string   // on the host while indexing, in the guest when loading
	depends []string // names, also those of "softdep=pre:"
	aliases []string // patterns of path.Match, with underscores
}

// moduleName gives the one spelling of a module's name or alias: the kernel treats - and _ alike, except inside brackets.
func moduleName(s string) string {
	if strings.ContainsRune(s, '[') {
		return s
	}
	return strings.ReplaceAll(s, "-", "_")
}

// readModule reads the .modinfo section of a kernel object: strings "key=value" ended by zero bytes.
func readModule(file string) (module, error) {
	f, err := elf.Open(file)
	if err != nil {
		return module{}, fmt.Errorf("%s: %w", file, err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		return module{}, fmt.Errorf("%s: no .modinfo section", file)
	}
	info, err := section.Data()
	if err != nil {
		return module{}, fmt.Errorf("%s: %w", file, err)
	}
	return parseModinfo(file, info), nil
}

func parseModinfo(file string, info []byte) module {
	m := module{path: file, name: moduleName(strings.TrimSuffix(filepath.Base(file), ".ko"))}
	for entry := range bytes.SplitSeq(info, []byte{0}) {
		key, value, _ := strings.Cut(string(entry), "=")
		switch key {
		case "depends":
			for d := range strings.SplitSeq(value, ",") {
				if d != "" {
					m.depends = append(m.depends, moduleName(d))
				}
			}
		case "softdep":
			if pre, ok := strings.CutPrefix(value, "pre:"); ok {
				pre, _, _ = strings.Cut(pre, "post:")
				for d := range strings.FieldsSeq(pre) {
					m.depends = append(m.depends, moduleName(d))
				}
			}
		case "alias":
			m.aliases = append(m.aliases, moduleName(value))
		}
	}
	return m
}

// What the kernel's build appends to a signed module: the signature, a struct module_signature whose last four bytes are the signature's length (big-endian), and
// this text (include/linux/module_signature.h).
const (
	signatureMagic  = "~Module signature appended~\n"
	signatureStruct = 12
)

// unsigned returns a module without its signature. To check one takes an emulated processor ten times as long as to load the module.
func unsigned(module []byte) []byte {
	rest, signed := bytes.CutSuffix(module, []byte(signatureMagic))
	if !signed || len(rest) < signatureStruct {
		return module
	}
	length := int(binary.BigEndian.Uint32(rest[len(rest)-4:]))
	if length > len(rest)-signatureStruct {
		return module
	}
	return rest[:len(rest)-signatureStruct-length]
}

// moduleTree is a set of modules by name.
type moduleTree map[string]module

// readModules reads every .ko file below root.
func readModules(root string) (moduleTree, error) {
	tree := moduleTree{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(file) != ".ko" {
			return err
		}
		m, err := readModule(file)
		tree[m.name] = m
		return err
	})
	return tree, err
}

// close adds to the chosen modules all that they depend on.
func (t moduleTree) close(chosen moduleTree) moduleTree {
	var visit func(name string)
	out := moduleTree{}
	visit = func(name string) {
		m, ok := t[name]
		if _, done := out[name]; done || !ok {
			return
		}
		out[name] = m
		for _, d := range m.depends {
			visit(d)
		}
	}
	for name := range chosen {
		visit(name)
	}
	return out
}

// resolve returns the modules that a request for name loads, dependencies first. The request is a module's name or matches one of
// its aliases; several modules may have the same alias.
func (t moduleTree) resolve(request string) []module {
	request = moduleName(request)
	var order []module
	visited := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		m, ok := t[name]
		if !ok || visited[name] {
			return
		}
		visited[name] = true
		for _, d := range m.depends {
			visit(d)
		}
		order = append(order, m)
	}
	if _, ok := t[request]; ok {
		visit(request)
		return order
	}
	for _, name := range t.names() {
		matches := func(alias string) bool {
			ok, err := path.Match(alias, request)
			return ok && err == nil
		}
		if slices.ContainsFunc(t[name].aliases, matches) {
			visit(name)
		}
	}
	return order
}

func (t moduleTree) names() []string {
	names := make([]string, 0, len(t))
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// index prints the tree as the lines that readIndex takes: name, path, dependencies, aliases.
func (t moduleTree) index() []byte {
	var b bytes.Buffer
	for _, name := range t.names() {
		m := t[name]
		fmt.Fprintf(&b, "%s\t%s\t%s\t%s\n", m.name, m.path, strings.Join(m.depends, " "), strings.Join(m.aliases, " "))
	}
	return b.Bytes()
}

func readIndex(r io.Reader) (moduleTree, error) {
	tree := moduleTree{}
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		f := strings.Split(lines.Text(), "\t")
		if len(f) != 4 {
			return nil, fmt.Errorf("module index: bad line %q", lines.Text())
		}
		tree[f[0]] = module{name: f[0], path: f[1], depends: strings.Fields(f[2]), aliases: strings.Fields(f[3])}
	}
	return tree, lines.Err()
}
