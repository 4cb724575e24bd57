package veth_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/veth"
)

func TestAlias(t *testing.T) {
	t.Parallel()
	for text, tag := range map[string]veth.Tag{
		"podplumb":                           {Owner: "podplumb"},
		"net1/ctr/eth0 netns=/run/netns/a b": {Owner: "net1/ctr/eth0", NetNS: "/run/netns/a b"},
		"o sysctl=ipv4.conf.*.rp_filter,core.somaxconn netns=/p": {
			Owner: "o", NetNS: "/p", Sysctls: []string{"net.ipv4.conf.IFNAME.rp_filter", "net.core.somaxconn"},
		},
	} {
		require.Equal(t, text, tag.Text())
		require.Equal(t, tag, veth.ParseTag(text))
	}
	// What others write into their aliases is no path and no sysctl.
	for _, text := range []string{"", "uplink to rack 7", "somebody netns", "x sysctl"} {
		require.Empty(t, veth.ParseTag(text).NetNS)
		require.Empty(t, veth.ParseTag(text).Sysctls)
	}
}

// FuzzAlias: whatever stands in a foreign link's alias, reading it is harmless, and what was read is written the same way.
func FuzzAlias(f *testing.F) {
	f.Add("podplumb sysctl=ipv4.conf.*.rp_filter netns=/run/netns/x")
	f.Add("a sysctl=,, netns=")
	f.Add(" netns=/x")
	f.Fuzz(func(t *testing.T, alias string) {
		tag := veth.ParseTag(alias)
		again := veth.ParseTag(tag.Text())
		require.Equal(t, tag.Owner, again.Owner)
		require.Equal(t, again, veth.ParseTag(again.Text()))
	})
}

// FuzzState: any state that can be written down is either refused with its faults or differs from nothing but other states, and
// making it canonical changes nothing about it.
func FuzzState(f *testing.F) {
	for _, s := range []veth.State{{}, valid()} {
		b, err := json.Marshal(s)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"Pairs":[{"Host":{"Name":"a","Bridge":"b","Port":{"VLANs":{"Trunks":[{"First":65535,"Last":65535}]}}}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var s veth.State
		if json.Unmarshal(data, &s) != nil {
			return
		}
		faults := s.Validate()
		require.Empty(t, veth.Diff(s, s).String())
		if faults != nil {
			return
		}
		require.NoError(t, s.Canonical().Validate())
		require.Empty(t, veth.Diff(s, s.Canonical()).String())
		require.Equal(t, s.Canonical(), s.Canonical().Canonical())
		require.Len(t, lines(veth.Diff(s, veth.State{})), len(s.Bridges)+len(s.Pairs))
	})
}
