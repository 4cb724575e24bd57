package rules_test

import (
	"path"
	"slices"
	"strings"
)

// mayImport says which packages of the module the code of each folder may import: tests aside, nothing else. A folder that is missing here is a fault
// too: a new package has to find its place.
var mayImport = map[string][]string{
	"netns":               {},
	"veth":                {"netns", "internal/plan", "internal/rtnl"},
	"vxlan":               {"netns", "internal/plan", "internal/rtnl"},
	"nat":                 {"netns", "internal/plan", "internal/nft", "internal/rtnl"},
	"ipvs":                {"netns", "internal/plan", "internal/nft", "internal/rtnl"},
	"policy":              {"netns", "internal/plan", "internal/nft", "internal/rtnl"},
	"service":             {"netns", "nat", "ipvs", "internal/plan"},
	"service/servicetest": {"netns", "service", "internal/nstest"}, // a suite of tests that other modules run

	"internal/plan":   {},
	"internal/nlsock": {"netns"},
	"internal/rtnl":   {"netns", "internal/nlsock"},
	"internal/nft":    {"netns", "internal/nlsock"},

	"internal/golden":                     {},
	"internal/nstest":                     {"netns"},
	"internal/nstest/account":             {},
	"internal/nstest/account/cmd/account": {"internal/nstest/account"},
	"internal/vmtest":                     {"internal/nstest/account"},
	"internal/vmtest/cmd/podvm":           {"internal/vmtest"},
	"internal/rules":                      {},
	"internal/compat":                     {"policy", "service"},
	"internal/compat/ipvs":                {"netns", "ipvs"},
}

// forTests is what any test may import besides: the harnesses.
var forTests = []string{"internal/golden", "internal/nstest"}

// beside is what the tests of a folder may import besides: drivers whose packets meet it on their way.
var beside = map[string][]string{"policy": {"ipvs"}}

func importsInside(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		f.imports(func(at, p string) {
			to, inside := strings.CutPrefix(p, module+"/")
			switch {
			case !inside:
			case f.in("examples"):
				if strings.HasPrefix(to, "internal/") {
					wrong.add("%s: examples import %s: they must work when copied elsewhere", at, p)
				}
			case strings.HasPrefix(to, "examples"):
				wrong.add("%s: the library imports an example", at)
			default:
				allowed, known := mayImport[f.dir()]
				if !known {
					wrong.add("%s: no rule says what %s may import", at, f.dir())
					return
				}
				if f.isTest() {
					allowed = append(slices.Concat(allowed, forTests, beside[f.dir()]), f.dir(), f.dir()+"/servicetest")
				}
				if !slices.Contains(allowed, to) {
					wrong.add("%s: %s must not import %s", at, f.dir(), to)
				}
			}
		})
	}
	return wrong
}

// outside says who alone may import a module, by the beginning of its import path.
var outside = []struct {
	prefix    string
	dirs      []string // and below
	linux     bool     // only from files *_linux.go and *_linux_test.go
	testsOnly bool     // from there, and from tests anywhere
	reason    string
}{
	{prefix: "github.com/vishvananda/netlink", dirs: []string{"internal/rtnl"}, linux: true, reason: "internal/rtnl is the only importer"},
	{prefix: "github.com/google/nftables", dirs: []string{"internal/nft"}, linux: true, reason: "it does not build elsewhere than on Linux"},
	{prefix: "github.com/mdlayher/netlink", dirs: []string{"internal/rtnl", "internal/nft", "internal/nstest", "internal/compat/ipvs", "netns", "nat", "ipvs"}, linux: true, reason: "sockets are opened in few places"},
	{prefix: "github.com/stretchr/testify/require", dirs: []string{"internal/golden", "internal/nstest"}, testsOnly: true, reason: "tests only"},
	{prefix: "github.com/stretchr/testify/", reason: "require is the only part of testify in use"},
	{prefix: "github.com/moby/ipvs", dirs: []string{"internal/compat/ipvs"}, testsOnly: true, reason: "a peer to measure against"},
	{prefix: "github.com/cloudflare/ipvs", dirs: []string{"internal/compat/ipvs"}, testsOnly: true, reason: "a peer to measure against"},
	{prefix: "k8s.io/", dirs: []string{"examples", "internal/compat"}, reason: "Kubernetes modules never reach those who import the library"},
	{prefix: "sigs.k8s.io/", dirs: []string{"examples", "internal/compat"}, reason: "Kubernetes modules never reach those who import the library"},
}

func importsOutside(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		f.imports(func(at, p string) {
			for _, rule := range outside {
				if !strings.HasPrefix(p, rule.prefix) && p+"/" != rule.prefix {
					continue
				}
				allowed := f.in(rule.dirs...) || rule.testsOnly && f.isTest() || f.in("examples")
				if !allowed || rule.linux && !f.isLinux() && !f.in("examples") && !f.isTest() {
					wrong.add("%s: import of %s: %s", at, p, rule.reason)
				}
				return // the first rule that fits decides
			}
		})
	}
	return wrong
}

// rootModule keeps what a library's user downloads small.
func rootModule(files []file) (wrong faults) {
	known := []string{
		"github.com/vishvananda/netlink", "github.com/vishvananda/netns", "github.com/google/nftables", "github.com/mdlayher/netlink",
		"github.com/stretchr/testify", "golang.org/x/sys",
		// what those need
		"github.com/google/go-cmp", "github.com/mdlayher/socket", "golang.org/x/net", "golang.org/x/sync", "go.yaml.in/yaml/v3",
	}
	for _, f := range files {
		if f.path != "go.mod" {
			continue
		}
		for line := range strings.Lines(f.text) {
			fields := strings.Fields(line)
			if len(fields) > 1 && (fields[0] == "replace" || fields[0] == "exclude") {
				wrong.add("go.mod: %s: those who import the library do not see it", strings.TrimSpace(line))
			}
			if fields = slices.DeleteFunc(fields, func(s string) bool { return s == "require" }); len(fields) < 2 || !strings.HasPrefix(fields[1], "v") {
				continue
			}
			if !slices.Contains(known, fields[0]) {
				wrong.add("go.mod: a new module, %s: give its reason in CHANGELOG.md and add it to this test", fields[0])
			}
		}
	}
	return wrong
}

// netlinkFiles: whoever talks to the kernel says so in the file's name.
func netlinkFiles(files []file) (wrong faults) {
	for _, f := range goFiles(files) {
		if !f.isLibrary() || f.isLinux() {
			continue
		}
		f.imports(func(at, p string) {
			if p == module+"/internal/rtnl" || p == "golang.org/x/sys/unix" {
				wrong.add("%s: %s belongs into a file %s_linux.go", at, p, strings.TrimSuffix(path.Base(f.path), ".go"))
			}
		})
	}
	return wrong
}
