package plan_test

import (
	"cmp"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/plan"
)

type item struct {
	name string
	mtu  int
}

func diff(have, want []item) []plan.Change[string, item] {
	return plan.Diff(have, want, func(i *item) string { return i.name }, cmp.Compare[string], func(a, b *item) bool { return *a == *b })
}

func TestDiff(t *testing.T) {
	t.Parallel()
	got := diff(
		[]item{{"c", 1}, {"a", 1}, {"b", 1}},
		[]item{{"d", 1}, {"b", 2}, {"c", 1}},
	)
	require.Len(t, got, 3)
	require.Equal(t, plan.Change[string, item]{Key: "a", Have: &item{"a", 1}}, got[0])
	require.Equal(t, plan.Remove, got[0].Op())
	require.Equal(t, plan.Change[string, item]{Key: "b", Have: &item{"b", 1}, Want: &item{"b", 2}}, got[1])
	require.Equal(t, plan.Modify, got[1].Op())
	require.Equal(t, plan.Change[string, item]{Key: "d", Want: &item{"d", 1}}, got[2])
	require.Equal(t, plan.Add, got[2].Op())
}

func TestDiffLaws(t *testing.T) {
	t.Parallel()
	random := func() []item {
		var s []item
		for _, n := range rand.Perm(8)[:rand.IntN(8)] {
			s = append(s, item{string(rune('a' + n)), rand.IntN(3)})
		}
		return s
	}
	for range 2000 {
		have, want := random(), random()
		require.Empty(t, diff(have, have))
		state := map[string]item{}
		for _, h := range have {
			state[h.name] = h
		}
		changes := diff(have, want)
		for i, c := range changes {
			if i > 0 {
				require.Less(t, changes[i-1].Key, c.Key)
			}
			if c.Want == nil {
				delete(state, c.Key)
				continue
			}
			state[c.Key] = *c.Want
		}
		require.Len(t, state, len(want))
		for _, w := range want {
			require.Equal(t, w, state[w.name])
		}
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	require.Empty(t, plan.Format(nil))
	require.Equal(t, "+ bridge cni0\n~ pair web0: mtu 1500 -> 1450\n- pair old0\n", plan.Format([]plan.Line{
		{Op: plan.Add, Object: "bridge cni0"},
		{Op: plan.Modify, Object: "pair web0", Detail: "mtu 1500 -> 1450"},
		{Op: plan.Remove, Object: "pair old0"},
	}))
}
