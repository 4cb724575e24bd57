package rules_test

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// topLevel: a newcomer sees at one glance what there is.
func topLevel(files []file) (wrong faults) {
	fixed := append([]string{"netns", "examples", "internal", "go.mod", "go.sum", "go.work", "go.work.sum", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"},
		append(drivers, compilers...)...)
	var seen []string
	for _, f := range files {
		top, _, _ := strings.Cut(f.path, "/")
		if !strings.HasPrefix(top, ".") && !slices.Contains(fixed, top) && !slices.Contains(seen, top) {
			wrong.add("%s: the top level is fixed", top)
			seen = append(seen, top)
		}
	}
	return wrong
}

// fileNames: a name says what is in it.
func fileNames(files []file) (wrong faults) {
	for _, f := range files {
		for element := range strings.SplitSeq(strings.TrimSuffix(f.path, path.Ext(f.path)), "/") {
			for word := range strings.SplitSeq(strings.TrimSuffix(element, "_test"), "_") {
				switch strings.TrimSuffix(strings.ToLower(word), "s") {
				case "util", "utilitie", "common", "helper", "type", "misc", "shared":
					wrong.add("%s: %q says nothing about what is there", f.path, word)
				}
			}
		}
	}
	return wrong
}

// roomFiles: what is in one room is found in the others under the same name. A room that is not there yet has no files at all.
func roomFiles(files []file) (wrong faults) {
	have := map[string]bool{}
	for _, f := range files {
		have[f.path], have[f.dir()] = true, true
	}
	want := func(dir string, names ...string) {
		if !have[dir] {
			return
		}
		for _, n := range names {
			if !have[dir+"/"+n] {
				wrong.add("%s: no file %s", dir, n)
			}
		}
	}
	want("netns", "doc.go", "netns.go", "validate.go", "errors.go", "example_test.go", "kernel_test.go")
	for _, d := range slices.Concat(drivers, compilers) {
		want(d, "doc.go", d+".go", "validate.go", "example_test.go")
		if slices.Contains(drivers, d) || have[d+"/client.go"] { // it keeps kernel state
			want(d, "diff.go", "errors.go", "client.go", "client_linux.go", "client_other.go", "kernel_test.go")
		}
	}
	return wrong
}

const maxLines = 600

func fileLength(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		if n := strings.Count(f.text, "\n"); n > maxLines {
			wrong.add("%s: %d lines, at most %d: one idea a file", f.path, n, maxLines)
		}
	}
	return wrong
}

// packageDocs: the package comment is in doc.go, or in main.go of a command.
func packageDocs(files []file) (wrong faults) {
	documented := map[string]bool{}
	var dirs []string
	for _, f := range goFiles(files) {
		if f.isTest() && !f.in("internal/rules") {
			continue
		}
		if !slices.Contains(dirs, f.dir()) {
			dirs = append(dirs, f.dir())
		}
		if f.ast.Doc == nil {
			continue
		}
		home, begins := "doc.go", []string{"Package " + f.ast.Name.Name + " "}
		if f.ast.Name.Name == "main" {
			home, begins = "main.go", []string{"Command " + path.Base(f.dir()) + " ", "The " + path.Base(f.dir()) + " example "}
		}
		if base := path.Base(f.path); base != home && base != "doc.go" {
			wrong.add("%s: a package comment outside of %s", f.path, home)
			continue
		}
		documented[f.dir()] = true
		if !slices.ContainsFunc(begins, func(b string) bool { return strings.HasPrefix(f.ast.Doc.Text(), b) }) {
			wrong.add("%s: the package comment does not begin with %q", f.path, begins)
		}
	}
	for _, d := range dirs {
		if !documented[d] {
			wrong.add("%s: no package comment in doc.go (main.go of a command)", d)
		}
	}
	return wrong
}

// promises are words for work that is left to do. They are spelt so that this file does not have them.
var promises = []string{"to" + "do", "fix" + "me", "xx" + "x", "not imple" + "mented", "for n" + "ow", "st" + "ub", "st" + "ubs", "st" + "ubbed"}

var (
	later    = regexp.MustCompile(`(?i)\b(` + strings.Join(promises, "|") + `)\b`)
	resolver = regexp.MustCompile(`(?i)st` + `ub[- ]?resolver`) // what DNS calls the client's side
)

func words(files []file) (wrong faults) {
	for _, f := range files {
		base, lower := path.Base(f.path), strings.ToLower(f.text)
		if base == "LICENSE" || base == "go.sum" || base == "go.work.sum" || f.dir() == "internal/rules/testdata" || strings.Contains(f.text, "\x00") ||
			!slices.ContainsFunc(promises, func(p string) bool { return strings.Contains(lower, p) }) {
			continue
		}
		n := 0
		for line := range strings.Lines(f.text) {
			n++
			if m := later.FindString(resolver.ReplaceAllString(line, "")); m != "" {
				wrong.add("%s:%d: %q: do it, or leave it out and say so where users look", f.path, n, m)
			}
		}
	}
	return wrong
}
