package nat_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

func TestLoad10k(t *testing.T) {
	needs(t)
	ns := nstest.New(t)
	want := many(10000)
	c := client(t, ns)
	began := time.Now()
	_, err := c.Sync(within(t), want)
	require.NoError(t, err)
	load := time.Since(began)
	require.NoError(t, c.Close())
	began = time.Now()
	second := client(t, ns)
	p, err := second.Sync(within(t), want)
	require.NoError(t, err)
	require.Empty(t, p.String())
	t.Logf("loaded in %s, read back in %s", load, time.Since(began))
	require.Less(t, load, 5*time.Second)
}

func BenchmarkChange(b *testing.B) {
	needs(b)
	for _, n := range []int{1000, 10000, 30000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := client(b, nstest.New(b))
			state := many(n)
			_, err := c.Sync(within(b), state)
			require.NoError(b, err)
			ctx := context.Background()
			for i := 0; b.Loop(); i++ {
				f := state.Forwards[i%n]
				if i/n%2 == 0 {
					f.To = f.To[:2]
				}
				if _, err := c.Update(ctx, nat.Change{Set: []nat.Forward{f}}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
