package nat_test

import (
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/nat"
)

// What nft lists is in nft's own words, but for one thing: it has none for a
// value shifted into a part of the mark. (That it still does not take all of
// it back is its own: it lists conntrack's ports in keys but does not read them.)
func TestListingReads(t *testing.T) {
	needs(t)
	nstest.Require(t, nstest.Tool("nft"))
	ns := nstest.New(t)
	c := client(t, ns, shared)
	s := many(3)
	s.Localhost = []netip.Addr{netip.MustParseAddr("10.1.1.1"), netip.MustParseAddr("fd00::1")}
	s.Networks = []nat.Network{{Prefix: netip.MustParsePrefix("10.9.0.0/24"), Name: "default/pods"}}
	s.Virtual = ranges
	s.Forwards[0].Affinity = time.Hour
	s.Forwards[1].Near, s.Forwards[1].Name = s.Forwards[1].To, "default/web:http"
	s.Forwards[2].Algorithm = nat.RoundRobin
	sync(t, c, s)
	list := nstest.Run(t, ns, "nft", "list", "ruleset")
	require.Contains(t, list, `comment "default/web:http"`, "a person sees whose a forward is")
	shifted := regexp.MustCompile(`(map @\S+) << \d+`)
	require.Regexp(t, shifted, list)
	file := filepath.Join(t.TempDir(), "list.nft")
	require.NoError(t, os.WriteFile(file, []byte(shifted.ReplaceAllString(list, "$1")), 0o600))
	out, _ := nstest.TryRun(t, nstest.New(t), "nft", "-c", "-f", file)
	require.NotContains(t, out, "syntax error")
}
