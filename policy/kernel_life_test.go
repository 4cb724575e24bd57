package policy_test

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/policy"
)

func shared(c *policy.Config) { c.Shared = true }

// A new Client reads what an old one left, which stayed in force, and writes only the difference.
func TestRestart(t *testing.T) {
	needs(t)
	for name, change := range map[string]func(*policy.Config){"owned": func(*policy.Config) {}, "shared": shared} {
		t.Run(name, func(t *testing.T) {
			ns := nstest.New(t)
			want := large(200, 100)
			first := client(t, ns, change)
			sync(t, first, want)
			before := nstest.Run(t, ns, "nft", "-a", "list", "ruleset")
			require.NoError(t, first.Close())
			require.NoError(t, first.Close(), "closing twice")
			_, err := first.Sync(within(t), want)
			require.ErrorIs(t, err, fs.ErrClosed)

			second := client(t, ns, change)
			got, err := second.Read(within(t))
			require.NoError(t, err)
			fresh, err := policy.Compile(want)
			require.NoError(t, err)
			require.Empty(t, policy.Diff(got, fresh).String())
			p, err := second.Sync(within(t), want)
			require.NoError(t, err)
			require.Empty(t, p.String(), "nothing changed, so nothing is written")
			require.Equal(t, withoutOwner(t, before), withoutOwner(t, nstest.Run(t, ns, "nft", "-a", "list", "ruleset")))

			want.Policies = want.Policies[1:]
			want.Pods = want.Pods[:len(want.Pods)-1]
			sync(t, second, want)
			sync(t, second, policy.State{})
			require.Empty(t, nstest.Run(t, ns, "nft", "list", "ruleset"))
		})
	}
}

// withoutOwner removes the lines that say which process holds the table.
func withoutOwner(t *testing.T, s string) string {
	t.Helper()
	_, rest, ok := strings.Cut(s, "comment \"podplumb policy")
	require.True(t, ok, s)
	return rest
}

// A table is held by one Client at a time; the next takes over.
func TestOwner(t *testing.T) {
	needs(t)
	nstest.Require(t, nstest.NFTOwner)
	ns := nstest.New(t)
	first, second := client(t, ns), client(t, ns)
	want := large(20, 10)
	sync(t, first, want)
	_, err := second.Read(within(t))
	require.NoError(t, err, "anyone may look")
	_, err = second.Sync(within(t), large(21, 10))
	require.ErrorIs(t, err, fs.ErrPermission)
	_, err = nstest.TryRun(t, ns, "nft", "delete", "table", "inet", "podplumb-policy")
	require.Error(t, err)
	nstest.Run(t, ns, "nft", "flush", "ruleset")
	require.True(t, plan(t, first, want).Empty(), "a flush leaves the table alone")
	require.NoError(t, first.Close())
	sync(t, second, large(21, 10))
	_, err = nstest.TryRun(t, ns, "nft", "delete", "table", "inet", "podplumb-policy")
	require.Error(t, err, "the second owns it now")
}

func plan(t testing.TB, c *policy.Client, want policy.State) policy.Plan {
	t.Helper()
	p, err := c.Plan(within(t), want)
	require.NoError(t, err)
	return p
}

func TestForeignTable(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	nstest.Run(t, ns, "nft", "add table inet podplumb-policy; add table ip other; add chain ip other mine")
	before := nstest.Run(t, ns, "nft", "list", "ruleset")
	c := client(t, ns)
	_, err := c.Read(within(t))
	require.ErrorIs(t, err, policy.ErrForeign)
	_, err = c.Sync(within(t), large(1, 1))
	require.ErrorIs(t, err, policy.ErrForeign)
	_, err = c.Sync(within(t), policy.State{})
	require.ErrorIs(t, err, policy.ErrForeign)
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
	mine := client(t, ns, func(c *policy.Config) { c.Table = "mine" })
	sync(t, mine, large(1, 1))
	sync(t, mine, policy.State{})
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
}

func TestStale(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	a, b := client(t, ns, shared), client(t, ns, shared)
	sync(t, a, large(20, 10))
	p := plan(t, a, large(20, 12))
	// Others' business is no reason to fail.
	nstest.Run(t, ns, "nft", "add", "table", "ip", "other")
	require.NoError(t, a.Apply(within(t), p))
	require.True(t, plan(t, b, large(20, 12)).Empty())
	_, err := a.Update(within(t), policy.Change{})
	require.NoError(t, err, "what was applied is of a State")
	// The same plan again, or one whose objects were changed meanwhile, is.
	require.ErrorIs(t, a.Apply(within(t), p), policy.ErrStale)
	p = plan(t, a, large(20, 14))
	sync(t, b, large(20, 13))
	before := nstest.Run(t, ns, "nft", "list", "ruleset")
	require.ErrorIs(t, a.Apply(within(t), p), policy.ErrStale)
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
	// What Diff makes applies as well.
	got, err := a.Read(within(t))
	require.NoError(t, err)
	want, err := policy.Compile(large(30, 15))
	require.NoError(t, err)
	require.NoError(t, a.Apply(within(t), policy.Diff(got, want)))
	require.True(t, plan(t, b, large(30, 15)).Empty())
	_, err = a.Update(within(t), policy.Change{})
	require.ErrorContains(t, err, "Sync first")
}

func TestCancelled(t *testing.T) {
	needs(t)
	c := client(t, nstest.New(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Sync(ctx, large(3, 3))
	require.ErrorIs(t, err, context.Canceled)
	var op *policy.OpError
	require.True(t, errors.As(err, &op))
	require.Equal(t, "podplumb-policy", op.Object)
	require.False(t, plan(t, c, large(3, 3)).Empty())
}

// Faults are named all at once, and nothing is changed.
func TestFaults(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	c := client(t, ns)
	s := large(3, 3)
	s.Pods[0].Status.PodIPs[0].IP = "nonsense"
	s.Policies[0].Spec.PolicyTypes = []policy.Direction{"Sideways"}
	_, err := c.Sync(within(t), s)
	require.ErrorContains(t, err, "nonsense")
	require.ErrorContains(t, err, "Sideways")
	var field *policy.FieldError
	require.ErrorAs(t, err, &field)
	sync(t, c, large(3, 3))
	before := nstest.Run(t, ns, "nft", "list", "ruleset")
	_, err = c.Update(within(t), policy.Change{Set: s})
	require.ErrorContains(t, err, "nonsense")
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
	_, err = policy.New(policy.Config{NetNS: ns, Table: "no blanks", Mark: 0xff, Local: []netip.Prefix{{}}})
	for _, want := range []string{"table: ", "mark: ", "local[0]: "} {
		require.ErrorContains(t, err, want)
	}
	few := client(t, ns, func(c *policy.Config) { c.Table, c.Mark = "few", 0xff000000 })
	_, err = few.Sync(within(t), many(300))
	require.ErrorIs(t, err, policy.ErrTooMany)
	_, err = nstest.TryRun(t, ns, "nft", "list", "table", "inet", "few")
	require.Error(t, err, "nothing was made")
}

// many has as many profiles as pods.
func many(n int) policy.State {
	var s policy.State
	for i := range n {
		pod := large(1, 0).Pods[0]
		pod.Meta.Name = "pod" + string(rune('a'+i%26)) + strings.Repeat("x", i/26)
		pod.Meta.Labels = map[string]string{"app": pod.Meta.Name}
		pod.Status.PodIPs = []policy.PodIP{{IP: netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}).String()}}
		s.Pods = append(s.Pods, pod)
		p := policy.NetworkPolicy{Meta: policy.Meta{Namespace: pod.Meta.Namespace, Name: pod.Meta.Name}}
		p.Spec.PodSelector.MatchLabels = pod.Meta.Labels
		s.Policies = append(s.Policies, p)
	}
	return s
}

func TestWatch(t *testing.T) {
	needs(t)
	c := newCluster(t)
	c.serve(t, "db", 8080)
	repaired := make(chan policy.Plan, 16)
	cl := client(t, c.node.NS, shared, func(c *policy.Config) {
		c.Node = "node0"
		c.Repaired = func(p policy.Plan, err error) {
			if err == nil {
				repaired <- p
			}
		}
	})
	s := c.with(t, allowWeb)
	sync(t, cl, s)
	list := nstest.Run(t, c.node.NS, "nft", "list", "chains")
	chain := list[strings.Index(list, "ingress4-"):]
	chain, _, _ = strings.Cut(chain, " ")
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- cl.Watch(ctx) }()
	for name, script := range map[string]string{
		"flush":          "flush ruleset",
		"delete":         "delete table inet podplumb-policy",
		"rules":          "flush chain inet podplumb-policy judge",
		"a rule":         "insert rule inet podplumb-policy " + chain + " return",
		"an element":     "delete element inet podplumb-policy ingress4 { 10.244.0.11 }",
		"elements":       "flush map inet podplumb-policy ingress6",
		"chains":         "flush map inet podplumb-policy ingress-chains4",
		"a new chain":    "add chain inet podplumb-policy stranger",
		"a new set":      "add set inet podplumb-policy stranger { type ipv4_addr; }",
		"a new counter":  "add counter inet podplumb-policy stranger",
		"a new element":  "add element inet podplumb-policy self4 { 10.244.0.12 . 10.244.0.11 }",
		"a whole policy": "flush chain inet podplumb-policy " + chain,
	} {
		t.Run(name, func(t *testing.T) {
			nstest.Run(t, c.node.NS, "nft", script)
			select {
			case p := <-repaired:
				require.False(t, p.Empty())
			case <-time.After(20 * time.Second):
				t.Fatal("not repaired")
			}
			require.True(t, plan(t, cl, s).Empty())
		})
	}
	c.matrix(t, s, []uint16{8080}, []string{"web", "probe"}, []string{"db"})
	// Own changes are no drift, other tables no concern.
	update(t, cl, policy.Change{Drop: policy.Drop{Policies: []policy.Name{{Namespace: "default", Name: "allow-web"}}}})
	nstest.Run(t, c.node.NS, "nft", "add", "table", "ip", "other")
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, repaired)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}
