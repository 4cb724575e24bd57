package rules_test

import (
	"go/types"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// vocabulary is what every package says that keeps kernel state in the shape that its caller declares. Parameters have no names here.
var vocabulary = []string{
	"func (State) Validate() error",
	"func Diff(State, State) Plan",
	"func (Plan) Empty() bool",
	"func (Plan) String() string",
	"func New(Config) (*Client, error)",
	"func (*Client) Read(context.Context) (State, error)",
	"func (*Client) Plan(context.Context, State) (Plan, error)",
	"func (*Client) Apply(context.Context, Plan) error",
	"func (*Client) Sync(context.Context, State) (Plan, error)",
	"func (*Client) Close() error",
	"type Config struct, NetNS *netns.NS",
	"type OpError struct, Op string",
	"type OpError struct, Object string",
	"type OpError struct, Err error",
	"func (*OpError) Error() string",
	"func (*OpError) Unwrap() error",
	"var ErrStale error",
}

// TestVocabulary: who knows one package knows the others.
func TestVocabulary(t *testing.T) {
	t.Parallel()
	packages := publicPackages(t)
	for _, dir := range append([]string{"policy"}, drivers...) {
		pkg := packages[dir]
		if pkg == nil || pkg.Scope().Lookup("Client") == nil && dir == "policy" { // a compiler may leave the kernel to others
			continue
		}
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			want := vocabulary
			if slices.Contains(compilers, dir) {
				want = spoken(want)
			}
			require.Empty(t, strings.Join(unsaid(pkg, want), "\n"))
		})
	}
}

// outcomes is what a compiler says otherwise: a kernel holds what its State becomes, which cannot be turned back.
var outcomes = map[string]string{
	"func Diff(State, State) Plan":                        "func Diff(Ruleset, Ruleset) Plan",
	"func (*Client) Read(context.Context) (State, error)": "func (*Client) Read(context.Context) (Ruleset, error)",
}

// spoken is the vocabulary of a compiler.
func spoken(list []string) []string {
	out := slices.Clone(list)
	for i, line := range out {
		if other, ok := outcomes[line]; ok {
			out[i] = other
		}
	}
	return out
}

// unsaid returns what of the vocabulary the package lacks.
func unsaid(pkg *types.Package, vocabulary []string) []string {
	said := exported(pkg)
	for _, f := range functions(pkg) {
		said = append(said, f.name+strings.TrimPrefix(types.TypeString(nameless(f.sig), qualifier(pkg)), "func"))
	}
	return slices.DeleteFunc(slices.Clone(vocabulary), func(line string) bool { return slices.Contains(said, line) })
}

// nameless is the signature without the names of its parameters and results.
func nameless(sig *types.Signature) *types.Signature {
	strip := func(t *types.Tuple) *types.Tuple {
		vars := make([]*types.Var, t.Len())
		for i := range vars {
			vars[i] = types.NewParam(t.At(i).Pos(), t.At(i).Pkg(), "", t.At(i).Type())
		}
		return types.NewTuple(vars...)
	}
	return types.NewSignatureType(nil, nil, nil, strip(sig.Params()), strip(sig.Results()), sig.Variadic())
}

func TestUnsaid(t *testing.T) {
	t.Parallel()
	require.Equal(t, vocabulary, unsaid(check(t, "package sample"), vocabulary))
	left := unsaid(check(t, `package sample

import "context"

type State struct{}

func (s State) Validate() (err error) { return nil }

type Plan struct{}

func Diff(have, want State) Plan { return Plan{} }

type Client struct{}

func (c *Client) Plan(ctx context.Context, want State) (Plan, error) { return Plan{}, nil }
func (c Client) Close() error                                        { return nil }

var ErrStale error
`), vocabulary)
	require.NotContains(t, left, "func (State) Validate() error")
	require.NotContains(t, left, "func Diff(State, State) Plan")
	require.NotContains(t, left, "func (*Client) Plan(context.Context, State) (Plan, error)")
	require.Contains(t, left, "func (*Client) Close() error", "a value receiver copies the client")
	require.Len(t, left, len(vocabulary)-4)
}
