package rules_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/podplumb/podplumb"

// drivers keep kernel state and compilers turn objects into it; with netns they are the public packages.
var (
	drivers   = []string{"veth", "vxlan", "nat", "ipvs"}
	compilers = []string{"policy", "service"}
)

// file is one file of the tree. path is relative to the root, with slashes.
type file struct {
	path string
	text string
	ast  *ast.File // nil when it is not Go
}

func (f file) dir() string  { return path.Dir(f.path) }
func (f file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }
func (f file) isLinux() bool {
	return strings.HasSuffix(strings.TrimSuffix(f.path, "_test.go"), "_linux") || strings.HasSuffix(f.path, "_linux.go")
}

// in reports whether the file lies in one of the folders or below.
func (f file) in(dirs ...string) bool {
	for _, d := range dirs {
		if f.dir() == d || strings.HasPrefix(f.dir(), d+"/") {
			return true
		}
	}
	return false
}

// isLibrary reports whether others get the file's code into their programs.
func (f file) isLibrary() bool {
	return f.ast != nil && !f.isTest() && (f.in("netns", "internal/plan", "internal/nft", "internal/rtnl") || f.in(drivers...) || f.in(compilers...))
}

// imports calls do with every import path of the file and its place.
func (f file) imports(do func(at string, path string)) {
	for _, i := range f.ast.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil {
			do(f.at(i), p)
		}
	}
}

// at returns the place of a node for a message.
func (f file) at(n ast.Node) string {
	return fmt.Sprintf("%s:%d", f.path, positions.Position(n.Pos()).Line)
}

// selectors calls do with each expression x.Name whose x is the package of that import path.
func (f file) selectors(importPath string, do func(at, name string)) {
	local := ""
	for _, i := range f.ast.Imports {
		if p, err := strconv.Unquote(i.Path.Value); err == nil && p == importPath {
			local = path.Base(p)
			if i.Name != nil {
				local = i.Name.Name
			}
		}
	}
	if local == "" {
		return
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == local {
				do(f.at(s), s.Sel.Name)
			}
		}
		return true
	})
}

var positions = token.NewFileSet()

// parse takes in one file.
func parse(name, text string) (file, error) {
	f := file{path: name, text: text}
	var err error
	if path.Ext(name) == ".go" && !strings.Contains(name, "testdata/") {
		f.ast, err = parser.ParseFile(positions, name, text, parser.ParseComments|parser.SkipObjectResolution)
	}
	return f, err
}

// readTree reads all files below the root, apart from what git keeps and what was built.
func readTree(root string) ([]file, error) {
	var files []file
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == ".build"):
			return fs.SkipDir
		case d.IsDir():
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		f, err := parse(filepath.ToSlash(rel), string(data))
		files = append(files, f)
		return err
	})
	return files, err
}

// goFiles are those that the go tool sees.
func goFiles(files []file) []file {
	return slices.DeleteFunc(slices.Clone(files), func(f file) bool { return f.ast == nil })
}

// faults collects what breaks a rule, so that one run names everything.
type faults []string

func (f *faults) add(format string, args ...any) { *f = append(*f, fmt.Sprintf(format, args...)) }
