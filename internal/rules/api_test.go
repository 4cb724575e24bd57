package rules_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/importer"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
)

// public are the packages that others import.
func public() []string {
	return append(append([]string{"netns"}, drivers...), append(compilers, "service/servicetest")...)
}

// compiled is what the go command makes of the public packages that exist, for Linux.
type compiled struct {
	packages map[string]*types.Package // by folder
	importer types.Importer            // knows them and all that they import
	lock     *sync.Mutex               // around importer
}

var load = sync.OnceValues(func() (compiled, error) {
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Export"}
	for _, dir := range public() {
		if sources, _ := filepath.Glob(filepath.Join("..", "..", dir, "*.go")); len(sources) > 0 {
			args = append(args, module+"/"+dir)
		}
	}
	list := exec.Command("go", args...)
	if runtime.GOOS != "linux" {
		list.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	}
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		return compiled{}, fmt.Errorf("go list: %w\n%s", err, stderr.Bytes())
	}
	exports := map[string]string{} // import path -> file
	for in := json.NewDecoder(bytes.NewReader(out)); ; {
		var pkg struct{ ImportPath, Export string }
		if err := in.Decode(&pkg); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return compiled{}, err
		}
		exports[pkg.ImportPath] = pkg.Export
	}
	c := compiled{packages: map[string]*types.Package{}, lock: &sync.Mutex{}}
	c.importer = importer.ForCompiler(token.NewFileSet(), "gc", func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) })
	for _, dir := range public() {
		if exports[module+"/"+dir] == "" {
			continue
		}
		if c.packages[dir], err = c.importer.Import(module + "/" + dir); err != nil {
			return compiled{}, err
		}
	}
	return c, nil
})

// publicPackages returns those that exist, by folder.
func publicPackages(t *testing.T) map[string]*types.Package {
	t.Helper()
	c, err := load()
	require.NoError(t, err)
	require.NotEmpty(t, c.packages)
	return c.packages
}

// TestAPI compares what each public package exports with the list api/PACKAGE.txt.
func TestAPI(t *testing.T) {
	t.Parallel()
	var lists []string
	for dir, pkg := range publicPackages(t) {
		name := filepath.Join("api", strings.ReplaceAll(dir, "/", "_")+".txt")
		lists = append(lists, name)
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			lines := exported(pkg)
			if golden.Updating() {
				require.NoError(t, os.MkdirAll("api", 0o755))
				require.NoError(t, os.WriteFile(name, []byte(strings.Join(lines, "\n")+"\n"), 0o644))
				return
			}
			listed, err := os.ReadFile(name)
			require.NoError(t, err, "a new package: go test ./internal/rules -update")
			require.Empty(t, strings.Join(changes(strings.Split(strings.TrimSpace(string(listed)), "\n"), lines), "\n"),
				"the exported API changed; if that is intended: go test ./internal/rules -update, and a line in CHANGELOG.md")
		})
	}
	found, err := filepath.Glob("api/*.txt")
	require.NoError(t, err)
	for _, name := range found {
		require.Contains(t, lists, name, "a list without its package")
	}
}

// changes lists the lines that went and those that came, sorted.
func changes(before, after []string) (lines []string) {
	for _, line := range before {
		if !slices.Contains(after, line) {
			lines = append(lines, "- "+line)
		}
	}
	for _, line := range after {
		if !slices.Contains(before, line) {
			lines = append(lines, "+ "+line)
		}
	}
	return lines
}

func TestChanges(t *testing.T) {
	t.Parallel()
	require.Empty(t, changes([]string{"a", "b"}, []string{"a", "b"}))
	require.Equal(t, []string{"- a", "+ c"}, changes([]string{"a", "b"}, []string{"b", "c"}))
}

// TestAPIRules checks what all exported functions and types have in common.
func TestAPIRules(t *testing.T) {
	t.Parallel()
	for dir, pkg := range publicPackages(t) {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			require.Empty(t, strings.Join(apiFaults(pkg), "\n"))
		})
	}
}

func apiFaults(pkg *types.Package) (wrong faults) {
	for _, line := range exported(pkg) {
		for _, old := range []string{"net.IP", "net.IPNet", "net.IPMask"} {
			if mentions(line, old) {
				wrong.add("%s: %s: net/netip, not %s", pkg.Name(), line, old)
			}
		}
		for _, foreign := range []string{"netlink.", "nftables.", "rtnl.", "nft.", "plan."} {
			if mentions(line, foreign) {
				wrong.add("%s: %s: a type of a package that its users should not need", pkg.Name(), line)
			}
		}
	}
	for _, f := range functions(pkg) {
		for i := range f.sig.Params().Len() {
			if i > 0 && f.sig.Params().At(i).Type().String() == "context.Context" {
				wrong.add("%s: %s: the context comes first", pkg.Name(), f.name)
			}
		}
		for _, word := range []string{"Ensure", "Setup", "Handle", "Manage", "Process"} {
			if strings.HasPrefix(f.short, word) {
				wrong.add("%s: %s: a verb that says what happens, not %s", pkg.Name(), f.name, word)
			}
		}
		if f.recv == "" && strings.HasPrefix(strings.ToLower(f.short), pkg.Name()) {
			wrong.add("%s: %s: stutters", pkg.Name(), f.name)
		}
	}
	for _, name := range unnamedEnums(pkg) {
		wrong.add("%s: %s has constants and no String method", pkg.Name(), name)
	}
	slices.Sort(wrong)
	return wrong
}

// mentions reports whether the line has the word, not as part of a longer one.
func mentions(line, word string) bool {
	letter := func(s string) bool { return s != "" && (s[0] == '_' || s[0]|0x20 >= 'a' && s[0]|0x20 <= 'z') }
	for rest := line; ; {
		i := strings.Index(rest, word)
		if i < 0 {
			return false
		}
		before, after := "", rest[i+len(word):]
		if i > 0 {
			before = rest[i-1 : i]
		}
		if !letter(before) && (strings.HasSuffix(word, ".") || !letter(after)) {
			return true
		}
		rest = after
	}
}

func TestMentions(t *testing.T) {
	t.Parallel()
	require.True(t, mentions("func A(ip net.IP) error", "net.IP"))
	require.True(t, mentions("func A() []net.IP", "net.IP"))
	require.False(t, mentions("func A(n net.IPNet)", "net.IP"))
	require.False(t, mentions("func A(n subnet.IP)", "net.IP"))
	require.True(t, mentions("func A(n subnet.IP, m net.IP)", "net.IP"))
	require.True(t, mentions("func A(l netlink.Link)", "netlink."))
	require.False(t, mentions("func A(l mynetlink.Link)", "netlink."))
}
