package plugin_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/netns"
)

const readme = "../README.md"

// TestReadmeSamples reads every configuration of the README as the plugin does.
func TestReadmeSamples(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	blocks := strings.Split(string(text), "```json\n")[1:]
	require.Len(t, blocks, 3)
	for _, b := range blocks {
		body, _, _ := strings.Cut(b, "```")
		var list struct {
			CNIVersion string
			Name       string
			Plugins    []config
		}
		require.NoError(t, json.Unmarshal([]byte(body), &list), body)
		for _, p := range list.Plugins {
			if p["type"] != "podplumb-cni" {
				continue
			}
			one, err := json.Marshal(p.with("name", list.Name).with("cniVersion", list.CNIVersion))
			require.NoError(t, err)
			_, err = conf.Parse(one)
			require.NoError(t, err, body)
		}
	}
}

// TestReadmeKeys finds every key of the configuration in the README.
func TestReadmeKeys(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	var look func(typ reflect.Type)
	look = func(typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			if f.Anonymous {
				look(f.Type)
				continue
			}
			key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			switch key {
			case "cniVersion", "name", "prevResult", "cni.dev/valid-attachments", "runtimeConfig":
				continue // the specification's
			}
			require.Contains(t, string(text), "`"+key+"`", "%s.%s", typ, f.Name)
		}
	}
	for _, v := range []any{conf.Net{}, conf.IPAM{}, conf.IPRange{}, conf.Route{}, conf.DNS{}} {
		look(reflect.TypeOf(v))
	}
}

// TestReadmeDoctor shows what the doctor prints. PODPLUMB_README=update writes it.
func TestReadmeDoctor(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, id := range []string{"web", "db", "old"} {
		ns, err := netns.New()
		require.NoError(t, err)
		t.Cleanup(func() { ns.Close() })
		p := &pod{id: id, path: filepath.Join(n.dir, id), ns: ns}
		require.NoError(t, ns.Pin(p.path))
		t.Cleanup(func() { _ = netns.Unpin(p.path) })
		c := n.conf.with("name", "pods")
		if id == "web" {
			c = c.with("runtimeConfig", ports(8080, 80, "tcp"))
		}
		n.ok(t, "ADD", p, c)
		switch id {
		case "db":
			in(t, ns, "ip", "addr", "del", "fd88::3/64", "dev", "eth0")
		case "old":
			require.NoError(t, netns.Unpin(p.path))
		}
	}
	in(t, n.ns, "nft", "delete", "element", "inet", "podplumb-cni", "forwards4", "{ 0.0.0.0 . tcp . 8080 }")
	in(t, n.ns, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
	out, code := n.doctor(t)
	require.Equal(t, 1, code, out)
	out = strings.ReplaceAll(out, "/var/lib/cni/", "/run/netns/")
	text, err := os.ReadFile(readme)
	require.NoError(t, err)
	before, rest, ok := strings.Cut(string(text), "```console\n$ podplumb-cni doctor\n")
	require.True(t, ok)
	shown, after, _ := strings.Cut(rest, "```")
	if os.Getenv("PODPLUMB_README") == "update" {
		require.NoError(t, os.WriteFile(readme, []byte(before+"```console\n$ podplumb-cni doctor\n"+out+"```"+after), 0o600))
		return
	}
	require.Equal(t, out, shown, "PODPLUMB_README=update go test writes what it prints")
}
