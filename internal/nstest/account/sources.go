package account

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
	"strings"
)

// Declared lists the kernel tests of a tree of modules by reading its sources: the Test functions of all files kernel*_test.go. Nested modules
// count under their own path. Folders that the go tool ignores (testdata, and names that begin with a dot or an underscore) are left out.
func Declared(root string) ([]Test, error) {
	var tests []Test
	modules := map[string]string{} // folder -> import path
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			modules[file], err = importPath(root, file, modules)
			return err
		}
		if ok, _ := path.Match("kernel*_test.go", name); !ok {
			return nil
		}
		functions, err := testFunctions(file)
		for _, f := range functions {
			tests = append(tests, Test{Package: modules[filepath.Dir(file)], Name: f})
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("account: read sources: %w", err)
	}
	slices.SortFunc(tests, Test.compare)
	return tests, nil
}

// importPath is the module line of the folder's go.mod, or the parent folder's path and the folder's name.
func importPath(root, dir string, known map[string]string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	switch {
	case err == nil:
		for line := range strings.Lines(string(data)) {
			if module, ok := strings.CutPrefix(line, "module "); ok {
				return strings.TrimSpace(module), nil
			}
		}
		return "", fmt.Errorf("%s has no module line", filepath.Join(dir, "go.mod"))
	case dir == root:
		return "", err
	default:
		return known[filepath.Dir(dir)] + "/" + filepath.Base(dir), nil
	}
}

// testFunctions returns the names that go test would run as tests.
func testFunctions(file string) ([]string, error) {
	tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, decl := range tree.Decls {
		f, ok := decl.(*ast.FuncDecl)
		if !ok || f.Recv != nil || f.Name.Name == "TestMain" {
			continue
		}
		rest, ok := strings.CutPrefix(f.Name.Name, "Test")
		if ok && (rest == "" || !('a' <= rest[0] && rest[0] <= 'z')) {
			names = append(names, f.Name.Name)
		}
	}
	return names, nil
}
