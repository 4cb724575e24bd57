package proxy

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/stretchr/testify/require"
)

func TestPolicy(t *testing.T) {
	t.Parallel()
	id := func(path string) spiffeid.ID { return spiffeid.RequireFromString("spiffe://cluster.local" + path) }
	p := Policy{Permissive: []uint16{80}, Allow: map[uint16][]string{
		0:  {"spiffe://cluster.local/ns/a/sa/*"},
		90: {"spiffe://cluster.local/ns/b/sa/x", "spiffe://cluster.local/ns/*/sa/y"},
		91: {},
	}}
	require.True(t, p.permissive(80))
	require.False(t, p.permissive(81))
	for _, c := range []struct {
		port uint16
		path string
		want bool
	}{
		{80, "/ns/a/sa/x", true},
		{80, "/ns/b/sa/x", false},
		{80, "/ns/a/sa/x/more", false},
		{80, "/ns/a/sa", false},
		{90, "/ns/b/sa/x", true},
		{90, "/ns/c/sa/y", true},
		{90, "/ns/a/sa/x", false},
		{91, "/ns/a/sa/x", false},
	} {
		require.Equal(t, c.want, p.allows(c.port, id(c.path)), "%d %s", c.port, c.path)
	}
	require.False(t, p.allows(80, spiffeid.RequireFromString("spiffe://elsewhere/ns/a/sa/x")))
	require.True(t, (&Policy{}).allows(80, id("/anything")))
}
