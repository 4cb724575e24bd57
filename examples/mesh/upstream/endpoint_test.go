package upstream_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/mesh/upstream"
)

func endpoints(n int, breaks upstream.BreakerConfig) (list []*upstream.Endpoint) {
	for range n {
		list = append(list, upstream.NewEndpoint("", false, upstream.Config{}, breaks))
	}
	return list
}

func TestBudget(t *testing.T) {
	t.Parallel()
	now := time.Unix(1000, 0)
	var b upstream.Budget
	b.Configure(upstream.BudgetConfig{Minimum: -1})
	granted := 0
	for range 1000 { // every request fails and wants to be tried again three times
		b.Request(now)
		for range 3 {
			if b.Retry(now) {
				granted++
			}
		}
		now = now.Add(time.Millisecond)
	}
	require.Equal(t, 200, granted, "20 of 100")
	require.False(t, b.Retry(now.Add(5*time.Second)), "they still count")
	require.False(t, b.Retry(now.Add(time.Minute)), "no request, no retry")
	for range 100 {
		b.Request(now.Add(2 * time.Minute))
	}
	require.True(t, b.Retry(now.Add(2*time.Minute)))

	var least upstream.Budget
	granted = 0
	for range 1000 {
		if least.Retry(now) {
			granted++
		}
	}
	require.Equal(t, 100, granted, "10 a second over 10 seconds")
	least.Configure(upstream.BudgetConfig{Percent: -1, Minimum: -1})
	least.Request(now)
	require.False(t, least.Retry(now.Add(time.Hour)))
}

// The circuit opens after failures in a row, lets one probe pass at a time, waits longer after each that fails, and closes.
func TestCircuit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		list := endpoints(1, upstream.BreakerConfig{})
		e := list[0]
		end := func(v upstream.Verdict) upstream.Circuit {
			turn := upstream.Pick(list, nil, time.Now())
			require.NotNil(t, turn)
			turn.End(v)
			turn.End(upstream.Success) // only the first counts
			return e.Circuit(time.Now())
		}
		for range 4 {
			require.Equal(t, upstream.Closed, end(upstream.Failure))
		}
		require.Equal(t, upstream.Closed, end(upstream.Success))
		for range 4 {
			require.Equal(t, upstream.Closed, end(upstream.Failure), "not in a row")
		}
		require.Equal(t, upstream.Closed, end(upstream.Neither))
		require.Equal(t, upstream.Open, end(upstream.Failure))
		for _, seconds := range []int{1, 2, 4, 8, 16, 32, 60, 60} {
			require.Nil(t, upstream.Pick(list, nil, time.Now()))
			time.Sleep(time.Duration(seconds)*time.Second - time.Millisecond)
			require.Equal(t, upstream.Open, e.Circuit(time.Now()))
			time.Sleep(time.Millisecond)
			require.Equal(t, upstream.HalfOpen, e.Circuit(time.Now()))
			probe := upstream.Pick(list, nil, time.Now())
			require.NotNil(t, probe)
			require.Nil(t, upstream.Pick(list, nil, time.Now()), "one at a time")
			probe.End(upstream.Neither)
			probe = upstream.Pick(list, nil, time.Now())
			require.NotNil(t, probe, "a probe that tells nothing is no probe")
			to, changed := probe.End(upstream.Failure)
			require.True(t, changed)
			require.Equal(t, upstream.Open, to)
		}
		time.Sleep(time.Minute)
		to, changed := upstream.Pick(list, nil, time.Now()).End(upstream.Success)
		require.True(t, changed)
		require.Equal(t, upstream.Closed, to)
		require.Zero(t, e.UnderWay())
	})
}

// A response to a request from before the circuit opened does not close it.
func TestLate(t *testing.T) {
	t.Parallel()
	list := endpoints(1, upstream.BreakerConfig{Failures: 1})
	late, bad := upstream.Pick(list, nil, time.Now()), upstream.Pick(list, nil, time.Now())
	bad.End(upstream.Failure)
	late.End(upstream.Success)
	require.Equal(t, upstream.Open, list[0].Circuit(time.Now()))
}

func TestPick(t *testing.T) {
	t.Parallel()
	now := time.Now()
	require.Nil(t, upstream.Pick(nil, nil, now))
	list := endpoints(3, upstream.BreakerConfig{Failures: 1})
	counts := map[*upstream.Endpoint]int{}
	var turns []*upstream.Turn
	for range 300 {
		turn := upstream.Pick(list, nil, now)
		counts[turn.Endpoint]++
		turns = append(turns, turn)
	}
	for _, e := range list {
		require.InDelta(t, 100, counts[e], 3, "the less loaded of two keeps them even")
	}
	for _, turn := range turns {
		turn.End(upstream.Success)
	}
	upstream.Pick(list, list[1:], now).End(upstream.Failure) // the first is out
	for range 50 {
		turn := upstream.Pick(list, nil, now)
		require.NotEqual(t, list[0], turn.Endpoint)
		turn.End(upstream.Success)
		turn = upstream.Pick(list, list[1:2], now)
		require.Equal(t, list[2], turn.Endpoint, "those that were tried come last")
		turn.End(upstream.Success)
	}
	require.NotNil(t, upstream.Pick(list, list, now), "all were tried: again")
}
