package rules_test

import (
	"go/ast"
	"go/token"
	"path"
	"slices"
	"strings"
)

// call is something of a package that only few may use. An empty name means all of the package.
type call struct {
	pkg    string
	names  []string
	reason string
	allow  func(file) bool // besides examples
}

func inNetns(f file) bool { return f.in("netns") }

// testSupport is code that only tests link.
func testSupport(f file) bool {
	return f.isTest() || f.in("internal/golden", "internal/nstest", "internal/vmtest", "internal/rules", "internal/compat")
}

var reserved = []call{
	{"runtime", []string{"LockOSThread", "UnlockOSThread"}, "threads are entered in netns only", inNetns},
	{"golang.org/x/sys/unix", []string{"Setns", "Unshare"}, "threads are entered in netns only", inNetns},
	{"syscall", []string{"Unshare", "RawSyscall", "Syscall"}, "golang.org/x/sys/unix, and threads are entered in netns only", inNetns},
	{"github.com/vishvananda/netns", []string{""}, "netns is the package for namespaces", func(f file) bool { return f.in("netns") || f.isTest() }},
	{"os/exec", []string{""}, "netlink only; netns starts what its caller asks for", func(f file) bool { return f.in("netns") || testSupport(f) }},
	{"fmt", []string{"Print", "Printf", "Println"}, "libraries do not print", func(f file) bool { return !f.isLibrary() }},
	{"log", []string{""}, "libraries do not log: the Plan is the log", func(f file) bool { return !f.isLibrary() }},
	{"log/slog", []string{""}, "libraries do not log: the Plan is the log", func(f file) bool { return !f.isLibrary() }},
	{
		"net", []string{"IP", "IPNet", "IPMask", "ParseIP", "ParseCIDR"}, "net/netip",
		func(f file) bool { return testSupport(f) || f.in("internal/rtnl", "internal/nft") || f.in("netns") },
	},
	{"time", []string{"Sleep"}, "wait for the kernel's event, with a deadline", func(f file) bool { return !f.isLibrary() || f.in("netns", "internal", "service/servicetest") }},
}

// calls finds what belongs to another package.
func calls(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		if f.in("examples") {
			continue
		}
		for _, c := range reserved {
			if c.allow(f) {
				continue
			}
			f.selectors(c.pkg, func(at, name string) {
				if slices.Contains(c.names, name) || slices.Contains(c.names, "") {
					wrong.add("%s: %s.%s: %s", at, path.Base(c.pkg), name, c.reason)
				}
			})
		}
	}
	return wrong
}

// declarations finds what the house does without: init functions, variables that others can set, and panics for bad input.
func declarations(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		if !f.isLibrary() || f.in("internal") {
			continue
		}
		for _, d := range f.ast.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil && d.Name.Name == "init" {
					wrong.add("%s: func init: a library does nothing by being imported", f.at(d))
				}
			case *ast.GenDecl:
				if d.Tok == token.VAR {
					for _, name := range exportedVars(d) {
						wrong.add("%s: var %s: exported variables are errors (Err...), nothing that can be set", f.at(name), name)
					}
				}
			}
		}
	}
	return wrong
}

func exportedVars(d *ast.GenDecl) (names []*ast.Ident) {
	for _, s := range d.Specs {
		for _, n := range s.(*ast.ValueSpec).Names {
			if n.IsExported() && !strings.HasPrefix(n.Name, "Err") {
				names = append(names, n)
			}
		}
	}
	return names
}

// testPackages: tests see a public package as its users do; export_test.go may open a window.
func testPackages(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		public := !f.in("examples") && !f.in("internal")
		if !f.isTest() || !public || path.Base(f.path) == "export_test.go" || path.Base(f.path) == "export_linux_test.go" {
			continue
		}
		if !strings.HasSuffix(f.ast.Name.Name, "_test") {
			wrong.add("%s: package %s: tests of a public package belong to package %s_test", f.path, f.ast.Name, f.ast.Name)
		}
	}
	return wrong
}

// kernelTests: a package that has them runs without root too, in a user namespace. (The examples cannot import the harness.)
func kernelTests(files []file) (wrong faults) {
	mains := map[string]bool{}
	kernel := map[string]string{}
	for _, f := range goFiles(files) {
		if !f.isTest() || f.in("internal/nstest") {
			continue
		}
		if ok, _ := path.Match("kernel*_test.go", path.Base(f.path)); ok {
			kernel[f.dir()] = f.path
		}
		f.selectors(module+"/internal/nstest", func(_, name string) {
			if name == "Main" {
				mains[f.dir()] = true
			}
		})
	}
	for dir, name := range kernel {
		if !mains[dir] && !strings.HasPrefix(dir, "examples") {
			wrong.add("%s: the package has kernel tests and no TestMain with nstest.Main", name)
		}
	}
	return wrong
}
