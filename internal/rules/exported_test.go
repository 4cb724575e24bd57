package rules_test

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// exported lists what a package offers, a line each, sorted.
func exported(pkg *types.Package) []string {
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	text := func(t types.Type) string { return types.TypeString(t, qualifier(pkg)) }
	for _, name := range pkg.Scope().Names() {
		if !token.IsExported(name) {
			continue
		}
		switch o := pkg.Scope().Lookup(name).(type) {
		case *types.Const:
			value := o.Val().String()
			if o.Val().Kind() == constant.String {
				value = o.Val().ExactString()
			}
			add("const %s %s = %s", name, text(o.Type()), value)
		case *types.Var:
			add("var %s %s", name, text(o.Type()))
		case *types.TypeName:
			lines = append(lines, exportedType(o, text)...)
		}
	}
	for _, f := range functions(pkg) {
		add("%s%s", f.name, strings.TrimPrefix(text(f.sig), "func"))
	}
	slices.Sort(lines)
	return lines
}

func qualifier(pkg *types.Package) types.Qualifier {
	return func(other *types.Package) string {
		if other == pkg {
			return ""
		}
		return other.Name()
	}
}

func exportedType(o *types.TypeName, text func(types.Type) string) (lines []string) {
	if o.IsAlias() {
		return []string{"type " + o.Name() + " = " + text(types.Unalias(o.Type()))}
	}
	head := "type " + o.Name()
	switch u := o.Type().Underlying().(type) {
	case *types.Struct:
		lines = append(lines, head+" struct")
		for i := range u.NumFields() {
			if f := u.Field(i); f.Exported() {
				line := head + " struct, " + f.Name() + " " + text(f.Type())
				if f.Embedded() {
					line = head + " struct, embedded " + text(f.Type())
				}
				if tag := u.Tag(i); tag != "" {
					line += " `" + tag + "`"
				}
				lines = append(lines, line)
			}
		}
	case *types.Interface:
		lines = append(lines, head+" interface")
		for i := range u.NumMethods() {
			if m := u.Method(i); m.Exported() {
				lines = append(lines, head+" interface, "+m.Name()+strings.TrimPrefix(text(m.Type()), "func"))
			} else {
				lines = append(lines, head+" interface, unexported methods")
			}
		}
	default:
		lines = append(lines, head+" "+text(u))
	}
	return lines
}

// function is an exported function, or an exported method of an exported type.
type function struct {
	name  string // "func New", "func (*Client) Sync"
	short string // "New", "Sync"
	recv  string // "Client"; empty for a function
	sig   *types.Signature
}

func functions(pkg *types.Package) (all []function) {
	for _, name := range pkg.Scope().Names() {
		if !token.IsExported(name) {
			continue
		}
		switch o := pkg.Scope().Lookup(name).(type) {
		case *types.Func:
			all = append(all, function{name: "func " + name, short: name, sig: o.Signature()})
		case *types.TypeName:
			named, ok := o.Type().(*types.Named)
			if !ok {
				continue
			}
			for m := range named.Methods() {
				if !m.Exported() {
					continue
				}
				recv := types.TypeString(m.Signature().Recv().Type(), qualifier(pkg))
				all = append(all, function{name: "func (" + recv + ") " + m.Name(), short: m.Name(), recv: name, sig: m.Signature()})
			}
		}
	}
	return all
}

// unnamedEnums returns the integer types that have constants in the package, but no String method.
func unnamedEnums(pkg *types.Package) (names []string) {
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if !ok || !c.Exported() {
			continue
		}
		named, ok := c.Type().(*types.Named)
		if !ok || named.Obj().Pkg() != pkg || slices.Contains(names, named.Obj().Name()) {
			continue
		}
		basic, ok := named.Underlying().(*types.Basic)
		method, _, _ := types.LookupFieldOrMethod(named, true, pkg, "String")
		if ok && basic.Info()&types.IsInteger != 0 && method == nil {
			names = append(names, named.Obj().Name())
		}
	}
	return names
}

// sample has one of everything.
const sample = `package sample

import (
	"context"
	"net/netip"
)

type State struct {
	Peers []Peer
	hidden int
}
type Peer struct {
	Addr netip.Addr ` + "`json:\"addr\"`" + `
	State
}
type Backend interface { Sync(ctx context.Context, s State) error; private() }
type Mode uint8
const ( Off Mode = iota; On )
type Family uint8
const V4 Family = 4
func (Family) String() string { return "" }
const Name = "a\tb"
var ErrStale error
type Old = State
type Key string
func New(s State) (*Client, error) { return nil, nil }
func unseen() {}
type Client struct{}
func (c *Client) Read(ctx context.Context) (State, error) { return State{}, nil }
func (Client) close() {}
`

// check compiles a package that imports what the public packages import.
func check(t *testing.T, source string) *types.Package {
	t.Helper()
	c, err := load()
	require.NoError(t, err)
	c.lock.Lock()
	defer c.lock.Unlock()
	fset := token.NewFileSet()
	tree, err := parser.ParseFile(fset, "sample.go", source, 0)
	require.NoError(t, err)
	pkg, err := (&types.Config{Importer: c.importer}).Check("example.org/"+tree.Name.Name, fset, []*ast.File{tree}, nil)
	require.NoError(t, err)
	return pkg
}

func TestExported(t *testing.T) {
	t.Parallel()
	pkg := check(t, sample)
	require.Equal(t, []string{
		"const Name untyped string = \"a\\tb\"",
		"const Off Mode = 0",
		"const On Mode = 1",
		"const V4 Family = 4",
		"func (*Client) Read(ctx context.Context) (State, error)",
		"func (Family) String() string",
		"func New(s State) (*Client, error)",
		"type Backend interface",
		"type Backend interface, Sync(ctx context.Context, s State) error",
		"type Backend interface, unexported methods",
		"type Client struct",
		"type Family uint8",
		"type Key string",
		"type Mode uint8",
		"type Old = State",
		"type Peer struct",
		"type Peer struct, Addr netip.Addr `json:\"addr\"`",
		"type Peer struct, embedded State",
		"type State struct",
		"type State struct, Peers []Peer",
		"var ErrStale error",
	}, exported(pkg))
	require.Equal(t, []string{"Mode"}, unnamedEnums(pkg))
}

func TestAPIFaults(t *testing.T) {
	t.Parallel()
	require.Equal(t, faults{
		"sample: Mode has constants and no String method",
		"sample: func (T) EnsureUp: a verb that says what happens, not Ensure",
		"sample: func Dial: the context comes first",
		"sample: func SampleNew: stutters",
		"sample: type T struct, Old []net.IPNet: net/netip, not net.IPNet",
	}, apiFaults(check(t, `package sample

import (
	"context"
	"net"
)

type Mode int

const A Mode = 1

type T struct {
	Old []net.IPNet
	MAC net.HardwareAddr
}

func (T) EnsureUp()                            {}
func Dial(name string, ctx context.Context)    {}
func DialAll(ctx context.Context, name string) {}
func SampleNew()                               {}
`)))
}
