package agent

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
)

// conflist is a CNI configuration list, as far as the agent writes one.
type conflist struct {
	CNIVersion  string   `json:"cniVersion"`
	CNIVersions []string `json:"cniVersions"` // runtimes that know the key take the highest that they know
	Name        string   `json:"name"`
	Plugins     []plugin `json:"plugins"`
}

// plugin is the configuration of examples/cni, of which more than these keys can be said.
type plugin struct {
	Type             string          `json:"type"`
	Bridge           string          `json:"bridge"`
	IsDefaultGateway bool            `json:"isDefaultGateway"`
	HairpinMode      bool            `json:"hairpinMode"`
	MTU              int             `json:"mtu"`
	IPAM             ipam            `json:"ipam"`
	Capabilities     map[string]bool `json:"capabilities"`
}

type ipam struct {
	Type   string     `json:"type"`
	Ranges [][]subnet `json:"ranges"`
}

type subnet struct {
	Subnet netip.Prefix `json:"subnet"`
}

// render returns the CNI configuration of a node with these pod ranges. Masquerading is the agent's: it knows the other nodes' ranges.
func render(o *options, ranges []netip.Prefix, mtu int) []byte {
	p := plugin{
		Type: o.plugin, Bridge: o.bridge, IsDefaultGateway: true, HairpinMode: true, MTU: mtu,
		IPAM:         ipam{Type: "host-local"},
		Capabilities: map[string]bool{"portMappings": true, "bandwidth": true, "mac": true, "ips": true},
	}
	for _, prefix := range ranges {
		p.IPAM.Ranges = append(p.IPAM.Ranges, []subnet{{Subnet: prefix}})
	}
	text, _ := json.MarshalIndent(conflist{
		CNIVersion: "1.0.0", CNIVersions: []string{"1.0.0", "1.1.0"}, Name: o.network, Plugins: []plugin{p},
	}, "", "  ")
	return append(text, '\n')
}

// replace gives a file new content, if it is new: a reader sees the old or the new, also after the power went.
func replace(path string, content []byte) (changed bool, err error) {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return false, err
	}
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return false, err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	_, err = file.Write(content)
	if err == nil {
		err = file.Chmod(0o644)
	}
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return false, err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return false, err
	}
	return true, syncDir(dir)
}

// withdraw removes the CNI configuration, and refuses when somebody else has written the file.
func withdraw(o *options) (removed bool, err error) {
	text, err := os.ReadFile(o.conflist)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var list conflist
	if err := json.Unmarshal(text, &list); err != nil || len(list.Plugins) != 1 || list.Plugins[0].Type != o.plugin {
		return false, fmt.Errorf("%s is not what an agent writes: remove it yourself", o.conflist)
	}
	if err := os.Remove(o.conflist); err != nil {
		return false, err
	}
	return true, syncDir(filepath.Dir(o.conflist))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
