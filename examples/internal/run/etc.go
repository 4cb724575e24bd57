package run

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/podplumb/podplumb/netns"
)

// etcNetNS is where `ip netns exec` and netns.StartMounted find what lies over files of /etc in a named namespace.
const etcNetNS = "/etc/netns"

// Etc writes a file that lies over its namesake in /etc for processes that enter the namespace with `ip netns exec`, and for
// containers that have container.Config.Etc. It goes with the run.
func (r *Run) Etc(ns *netns.NS, name string, content []byte) error {
	dir := filepath.Join(etcNetNS, ns.Name())
	for {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		err := os.WriteFile(filepath.Join(dir, name), content, 0o644)
		if !errors.Is(err, fs.ErrNotExist) { // else another run has removed the empty directory between the two calls
			return err
		}
	}
}

// removeEtc removes what Etc has written.
func (r *Run) removeEtc() error {
	entries, err := os.ReadDir(etcNetNS)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var faults []error
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), r.Prefix()) {
			faults = append(faults, os.RemoveAll(filepath.Join(etcNetNS, entry.Name())))
		}
	}
	_ = os.Remove(etcNetNS) // stays while others have something in it
	return errors.Join(append(faults, err)...)
}
