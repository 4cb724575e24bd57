package nat_test

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
	"github.com/podplumb/podplumb/nat"
)

func shared(c *nat.Config) { c.Shared = true }

func TestRestart(t *testing.T) {
	needs(t)
	for name, change := range map[string]func(*nat.Config){"owned": func(*nat.Config) {}, "shared": shared} {
		t.Run(name, func(t *testing.T) {
			ns := nstest.New(t)
			want := many(500)
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
			require.Empty(t, nat.Diff(got, want).String())
			p, err := second.Sync(within(t), want)
			require.NoError(t, err)
			require.Empty(t, p.String(), "nothing changed, so nothing is written")
			after := nstest.Run(t, ns, "nft", "-a", "list", "ruleset")
			require.Equal(t, withoutOwner(before), withoutOwner(after))

			want.Forwards[7].To = want.Forwards[7].To[1:]
			want.Forwards = want.Forwards[1:]
			p = sync(t, second, want)
			require.Len(t, strings.Split(strings.TrimSpace(p.String()), "\n"), 2, p.String())
			sync(t, second, nat.State{})
			require.Empty(t, nstest.Run(t, ns, "nft", "list", "ruleset"))
		})
	}
}

// withoutOwner removes the lines that say which process holds the table.
func withoutOwner(s string) string {
	_, rest, _ := strings.Cut(s, "comment \"podplumb nat\"")
	return rest
}

// A table is held by one Client at a time; the next takes over.
func TestOwner(t *testing.T) {
	needs(t)
	nstest.Require(t, nstest.NFTOwner)
	ns := nstest.New(t)
	first, second := client(t, ns), client(t, ns)
	want := many(3)
	sync(t, first, want)
	got, err := second.Read(within(t))
	require.NoError(t, err, "anyone may look")
	require.Empty(t, nat.Diff(got, want).String())
	_, err = second.Sync(within(t), many(4))
	require.ErrorIs(t, err, fs.ErrPermission)
	_, err = nstest.TryRun(t, ns, "nft", "delete", "table", "inet", "podplumb-nat")
	require.Error(t, err)
	nstest.Run(t, ns, "nft", "flush", "ruleset")
	require.True(t, plan(t, first, want).Empty(), "a flush leaves the table alone")
	require.NoError(t, first.Close())
	sync(t, second, many(4))
	_, err = nstest.TryRun(t, ns, "nft", "delete", "table", "inet", "podplumb-nat")
	require.Error(t, err, "the second owns it now")
}

func plan(t testing.TB, c *nat.Client, want nat.State) nat.Plan {
	t.Helper()
	p, err := c.Plan(within(t), want)
	require.NoError(t, err)
	return p
}

func TestForeignTable(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	nstest.Run(t, ns, "nft", "add table inet podplumb-nat; add table ip other; add chain ip other mine")
	before := nstest.Run(t, ns, "nft", "list", "ruleset")
	c := client(t, ns)
	_, err := c.Read(within(t))
	require.ErrorIs(t, err, nat.ErrForeign)
	_, err = c.Sync(within(t), many(1))
	require.ErrorIs(t, err, nat.ErrForeign)
	_, err = c.Sync(within(t), nat.State{})
	require.ErrorIs(t, err, nat.ErrForeign)
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
	mine := client(t, ns, func(c *nat.Config) { c.Table = "mine" })
	sync(t, mine, many(1))
	sync(t, mine, nat.State{})
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
}

func TestStale(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	a, b := client(t, ns, shared), client(t, ns, shared)
	sync(t, a, many(3))
	want := many(3)
	want.Forwards[0].To = want.Forwards[0].To[:1]
	p := plan(t, a, want)
	// Others' business is no reason to fail.
	nstest.Run(t, ns, "nft", "add", "table", "ip", "other")
	require.NoError(t, a.Apply(within(t), p))
	// The same plan again, or one whose forward was changed meanwhile, is.
	require.ErrorIs(t, a.Apply(within(t), p), nat.ErrStale)
	p = plan(t, a, many(3))
	changed := many(3)
	changed.Forwards[0].To[0].Port++
	sync(t, b, changed)
	before := nstest.Run(t, ns, "nft", "list", "ruleset")
	require.ErrorIs(t, a.Apply(within(t), p), nat.ErrStale)
	require.Equal(t, before, nstest.Run(t, ns, "nft", "list", "ruleset"))
	// What Diff makes applies as well.
	got, err := a.Read(within(t))
	require.NoError(t, err)
	require.NoError(t, a.Apply(within(t), nat.Diff(got, many(5))))
	require.True(t, plan(t, b, many(5)).Empty())
}

func TestCancelled(t *testing.T) {
	needs(t)
	c := client(t, nstest.New(t))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err := c.Sync(ctx, many(1))
	require.ErrorIs(t, err, context.Canceled)
	var op *nat.OpError
	require.True(t, errors.As(err, &op))
	require.Equal(t, "podplumb-nat", op.Object)
	require.False(t, plan(t, c, many(1)).Empty())
}

func TestWatch(t *testing.T) {
	needs(t)
	node := nstest.NewCluster(t, 1, 2).Nodes[0]
	serve(t, node.Pods[1])
	repaired := make(chan nat.Plan, 16)
	c := client(t, node.NS, shared, func(c *nat.Config) {
		c.Repaired = func(p nat.Plan, err error) {
			if err == nil {
				repaired <- p
			}
		}
	})
	want := nat.State{Virtual: ranges, Forwards: forwards(node.Pods[1])}
	sync(t, c, want)
	ctx, cancel := context.WithCancel(within(t))
	done := make(chan error, 1)
	go func() { done <- c.Watch(ctx) }()
	time.Sleep(50 * time.Millisecond)
	for name, script := range map[string]string{
		"flush":        "flush ruleset",
		"delete":       "delete table inet podplumb-nat",
		"rules":        "flush chain inet podplumb-nat dispatch",
		"a rule":       "insert rule inet podplumb-nat dispatch drop",
		"an element":   "delete element inet podplumb-nat addresses4 { 10.96.0.10 }",
		"elements":     "flush map inet podplumb-nat forwards6",
		"lanes":        "flush map inet podplumb-nat lanes",
		"new elements": "add element inet podplumb-nat networks4 { 172.16.0.0/12 }",
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			nstest.Run(t, node.NS, "nft", script)
			select {
			case p := <-repaired:
				require.False(t, p.Empty())
				if !nstest.InGuest() { // whose processor is ten times slower
					require.Less(t, time.Since(began), time.Second)
				}
			case <-time.After(3 * time.Second):
				t.Fatal("not repaired")
			}
			require.True(t, plan(t, c, want).Empty())
			each(t, func(t *testing.T, network string, v6 bool) {
				nstest.Reaches(t, node.Pods[0].NS, network, netip.AddrPortFrom(service[v6], 80))
			})
		})
	}
	// Own changes are no drift, other tables no concern.
	sync(t, c, nat.State{Forwards: want.Forwards[1:]})
	nstest.Run(t, node.NS, "nft", "add", "table", "ip", "other")
	time.Sleep(100 * time.Millisecond)
	require.Empty(t, repaired)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
}

// many returns n forwards of three targets, without anything behind them.
func many(n int) nat.State {
	var s nat.State
	for i := range n {
		f := nat.Forward{
			Name: "default/service", Port: uint16(80 + i%3), Proto: nat.TCP,
			Addr: netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)}),
		}
		for j := range 3 {
			f.To = append(f.To, nat.Target{Addr: netip.AddrFrom4([4]byte{10, byte(128 + i>>14), byte(i >> 6), byte(i<<2 | j)}), Port: 8080})
		}
		s.Forwards = append(s.Forwards, f)
	}
	return s
}
