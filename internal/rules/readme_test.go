package rules_test

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
)

var (
	testName = regexp.MustCompile("`((?:Test|Example|Benchmark|Fuzz)[A-Za-z0-9_]*)(?:/[^`]*)?`")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
	code     = regexp.MustCompile("(?s)<!-- file: ([^ ]+) -->\n```[a-z]*\n(.*?)```\n")
)

// readmeNames: the README names tests and files that exist, and the code that it shows is that of a file that is compiled and run.
func readmeNames(files []file) (wrong faults) {
	texts := map[string]string{}
	folders := map[string]bool{}
	functions := map[string]bool{}
	for _, f := range files {
		texts[f.path] = f.text
		for d := f.dir(); d != "."; d = path.Dir(d) {
			folders[d] = true
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
	readme := texts["README.md"]
	for _, m := range testName.FindAllStringSubmatch(readme, -1) {
		if !functions[m[1]] {
			wrong.add("README.md: no test is called %s", m[1])
		}
	}
	for _, m := range link.FindAllStringSubmatch(readme, -1) {
		to := path.Clean(m[1])
		if _, ok := texts[to]; !ok && !folders[to] {
			wrong.add("README.md: no file %s", to)
		}
	}
	for _, m := range code.FindAllStringSubmatch(readme, -1) {
		if text, ok := texts[m[1]]; !ok || !strings.Contains(text, m[2]) {
			wrong.add("README.md: the code under %q is not that of the file: copy it from there", m[1])
		}
	}
	return wrong
}
