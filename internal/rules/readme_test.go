package rules_test

import (
	"go/ast"
	"path"
	"regexp"
)

var (
	testName = regexp.MustCompile("`((?:Test|Example|Benchmark|Fuzz)[A-Za-z0-9_]*)(?:/[^`]*)?`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	block    = regexp.MustCompile("(?ms)^```.*?^```")
)

// readmeNames: the tests and files that the README names exist. (examples/quickstart tests the code that it shows.)
func readmeNames(files []file) (wrong faults) {
	readme := ""
	exists := map[string]bool{} // files and folders
	functions := map[string]bool{}
	for _, f := range files {
		if f.path == "README.md" {
			readme = block.ReplaceAllString(f.text, "")
		}
		for p := f.path; p != "."; p = path.Dir(p) {
			exists[p] = true
		}
		if f.ast == nil || !f.isTest() {
			continue
		}
		for _, d := range f.ast.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok {
				functions[fn.Name.Name] = true
			}
		}
	}
	for _, m := range testName.FindAllStringSubmatch(readme, -1) {
		if !functions[m[1]] {
			wrong.add("README.md: no test is called %s", m[1])
		}
	}
	for _, m := range link.FindAllStringSubmatch(readme, -1) {
		if to := path.Clean(m[1]); !exists[to] {
			wrong.add("README.md: no file %s", to)
		}
	}
	return wrong
}
