package compat_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/podplumb/podplumb/policy"
)

// selectorOf makes a selector and labels of bytes: every byte picks one of a few keys, operators and values, good and bad.
func selectorOf(data []byte) (policy.Selector, map[string]string) {
	next := func(n int) int {
		if len(data) == 0 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b) % n
	}
	keys := []string{"a", "b", "example.com/c", policy.LabelName, "", "-", "/x", "A.b_c", "x/y/z"}
	values := []string{"", "x", "y", "X-1.z", "a b", "-", "ö"}
	operators := []policy.Operator{policy.In, policy.NotIn, policy.Exists, policy.DoesNotExist, "in", "Gt", ""}
	pick := func(list []string, good int) string { // bad ones seldom
		if next(8) == 7 {
			return list[next(len(list))]
		}
		return list[next(good)]
	}
	var s policy.Selector
	have := map[string]string{}
	for range next(4) {
		have[keys[next(4)]] = values[next(4)]
	}
	if n := next(3); n > 0 {
		s.MatchLabels = map[string]string{}
		for range n {
			s.MatchLabels[pick(keys, 4)] = pick(values, 4)
		}
	}
	for range next(4) {
		r := policy.Requirement{Key: pick(keys, 4), Operator: operators[next(4)]}
		if next(10) == 9 {
			r.Operator = operators[next(len(operators))]
		}
		if lists := r.Operator == policy.In || r.Operator == policy.NotIn; lists != (next(10) == 9) {
			for range 1 + next(3) {
				r.Values = append(r.Values, pick(values, 4))
			}
		}
		s.MatchExpressions = append(s.MatchExpressions, r)
	}
	return s, have
}

// compareSelector holds a selector to apimachinery's. One that apimachinery refuses is refused by Validate too.
func compareSelector(t *testing.T, s policy.Selector, have map[string]string) (accepted, selects bool) {
	t.Helper()
	theirs := &metav1.LabelSelector{MatchLabels: s.MatchLabels}
	for _, r := range s.MatchExpressions {
		theirs.MatchExpressions = append(theirs.MatchExpressions, metav1.LabelSelectorRequirement{Key: r.Key, Operator: metav1.LabelSelectorOperator(r.Operator), Values: r.Values})
	}
	selector, err := metav1.LabelSelectorAsSelector(theirs)
	p := policy.NetworkPolicy{Meta: policy.Meta{Name: "x", Namespace: "x"}, Spec: policy.NetworkPolicySpec{PodSelector: s}}
	verdict := policy.State{Policies: []policy.NetworkPolicy{p}}.Validate()
	require.Equal(t, err == nil, verdict == nil, "%#v: %v, but %v", s, err, verdict)
	if err == nil {
		require.Equal(t, selector.Matches(labels.Set(have)), s.Matches(have), "%s of %v", &s, have)
	}
	return err == nil, err == nil && s.Matches(have)
}

func TestSelectors(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	accepted, selecting := 0, 0
	const count = 20_000
	for range count {
		data := make([]byte, 40)
		for i := range data {
			data[i] = byte(r.UintN(256))
		}
		s, have := selectorOf(data)
		ok, selects := compareSelector(t, s, have)
		if ok {
			accepted++
		}
		if selects {
			selecting++
		}
	}
	require.Greater(t, accepted, count/4)
	require.Less(t, accepted, count*9/10)
	require.Greater(t, selecting, count/20)
}

func FuzzSelector(f *testing.F) {
	f.Add([]byte("\x02\x00\x01\x01\x00\x01\x00\x01\x02\x00\x01\x00\x00\x02\x01\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, have := selectorOf(data)
		compareSelector(t, s, have)
	})
}
