package nat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
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
	if !nstest.InGuest() { // whose processor is ten times slower
		require.Less(t, load, 5*time.Second)
	}
}
