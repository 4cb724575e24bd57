package plan

import (
	"slices"
	"strings"
)

// Op says what a change does. Its values are the marks that a printed plan shows.
type Op byte

// The three kinds of change.
const (
	Add    Op = '+'
	Modify Op = '~'
	Remove Op = '-'
)

// String returns the mark: "+", "~" or "-".
func (o Op) String() string { return string(rune(o)) }

// Change is one difference between two states. Have is nil for an addition, Want is nil for a removal; both are set for a
// modification.
type Change[K comparable, T any] struct {
	Key  K
	Have *T
	Want *T
}

// Op tells which kind of change c is.
func (c Change[K, T]) Op() Op {
	switch {
	case c.Have == nil:
		return Add
	case c.Want == nil:
		return Remove
	}
	return Modify
}

// Diff pairs have and want by key and returns what differs, ordered by compare. Values for which equal is true are left out.
// When a slice holds a key twice its last value counts.
func Diff[K comparable, T any](have, want []T, key func(*T) K, compare func(a, b K) int, equal func(have, want *T) bool) []Change[K, T] {
	if len(have) == 0 {
		return additions(want, key, compare)
	}
	index := make(map[K]*T, len(have))
	for i := range have {
		index[key(&have[i])] = &have[i]
	}
	wanted := make(map[K]*T, len(want))
	for i := range want {
		wanted[key(&want[i])] = &want[i]
	}
	var changes []Change[K, T]
	for k, w := range wanted {
		h, ok := index[k]
		if ok && equal(h, w) {
			continue
		}
		changes = append(changes, Change[K, T]{Key: k, Have: h, Want: w})
	}
	for k, h := range index {
		if _, ok := wanted[k]; !ok {
			changes = append(changes, Change[K, T]{Key: k, Have: h})
		}
	}
	slices.SortFunc(changes, func(a, b Change[K, T]) int { return compare(a.Key, b.Key) })
	return changes
}

// additions is Diff from nothing, without looking anything up.
func additions[K comparable, T any](want []T, key func(*T) K, compare func(a, b K) int) []Change[K, T] {
	if len(want) == 0 {
		return nil
	}
	changes := make([]Change[K, T], len(want))
	for i := range want {
		changes[i] = Change[K, T]{Key: key(&want[i]), Want: &want[i]}
	}
	byKey := func(a, b Change[K, T]) int { return compare(a.Key, b.Key) }
	if !slices.IsSortedFunc(changes, byKey) {
		slices.SortStableFunc(changes, byKey)
	}
	kept := changes[:1]
	for _, c := range changes[1:] {
		if last := &kept[len(kept)-1]; last.Key == c.Key {
			*last = c
			continue
		}
		kept = append(kept, c)
	}
	return kept
}

// Line is one printed change: its mark, the object, and optionally what changes in it.
type Line struct {
	Op     Op
	Object string
	Detail string
}

// String prints the line without a newline, as "+ bridge cni0: mtu 1450".
func (l Line) String() string {
	if l.Detail == "" {
		return l.Op.String() + " " + l.Object
	}
	return l.Op.String() + " " + l.Object + ": " + l.Detail
}

// Format prints lines in their order, one a line, each ended by a newline. No lines print as the empty string.
func Format(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.String())
		b.WriteByte('\n')
	}
	return b.String()
}
