package service_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
	"github.com/podplumb/podplumb/service"
)

// FuzzResolve takes any State, as JSON. Whatever it is, Resolve and Validate agree on whether it is sound, the objects survive being written and read,
// and the Frontends keep the laws that backends build on.
func FuzzResolve(f *testing.F) {
	paths, err := filepath.Glob("testdata/resolve/*.txtar")
	require.NoError(f, err)
	for _, path := range paths {
		data, err := os.ReadFile(path)
		require.NoError(f, err)
		a := golden.Parse(data)
		f.Add([]byte(a.Lookup("state.json").Data), []byte(a.Lookup("node.json").Data))
	}
	f.Fuzz(func(t *testing.T, state, node []byte) {
		var s service.State
		var n service.Node
		if json.Unmarshal(state, &s) != nil || json.Unmarshal(node, &n) != nil {
			return
		}
		first, err := json.Marshal(s)
		if err != nil {
			return // a year beyond 9999
		}
		var again service.State
		require.NoError(t, json.Unmarshal(first, &again))
		second, err := json.Marshal(again)
		require.NoError(t, err)
		require.True(t, bytes.Equal(first, second), "%s\n%s", first, second)

		list, err := service.Resolve(s, n)
		if invalid := s.Validate(); invalid != nil {
			require.ErrorContains(t, err, invalid.Error())
		}
		if err != nil {
			require.Empty(t, list)
			return
		}
		same, err := service.Resolve(again, n)
		require.NoError(t, err)
		require.Equal(t, lines(list), lines(same))
		require.True(t, service.Diff(list, same).Empty())
		lawful(t, list)
	})
}

// lawful checks what holds for every list of Frontends.
func lawful(t *testing.T, list []service.Frontend) {
	keys := map[service.Key]bool{}
	places := map[netip.AddrPort]map[service.Protocol]bool{}
	for _, f := range list {
		require.False(t, keys[f.Key], "%s twice", f.Key)
		keys[f.Key] = true
		switch f.Kind {
		case service.KindUnallocated, service.KindUnknownPort:
			require.Empty(t, f.Endpoints)
			continue
		case service.KindNodePort:
		default: // no two promises about the same packets
			at := netip.AddrPortFrom(f.Addr, f.Port)
			require.False(t, places[at][f.Protocol], "%s twice", f.Key)
			if places[at] == nil {
				places[at] = map[service.Protocol]bool{}
			}
			places[at][f.Protocol] = true
		}
		for _, endpoints := range [][]service.Endpoint{f.Endpoints, f.Near} {
			for i, e := range endpoints {
				require.Equal(t, f.Is4(), e.Addr.Addr().Is4(), f.String())
				require.NotZero(t, e.Addr.Port())
				require.True(t, i == 0 || endpoints[i-1].Addr.Compare(e.Addr) < 0, f.String())
			}
		}
	}
}
