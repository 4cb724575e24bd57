package ipam

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// importedName marks a Store that has taken over a host-local directory.
const importedName = "imported"

// Import takes over the leases of a directory of the host-local plugin (by default /var/lib/cni/networks/NAME): a file for each
// address that holds the container's ID and the interface's name. It is done once for each Store; later calls return at once, as does
// one for a directory that does not exist. The directory is left as it is: see ReleaseHostLocal.
func (s *Store) Import(dir string) (taken int, err error) {
	marker := filepath.Join(s.dir, importedName)
	if _, err := os.Stat(marker); err == nil {
		return 0, nil
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, e := range entries {
		a, err := netip.ParseAddr(e.Name())
		if err != nil {
			continue // lock, last_reserved_ip.N
		}
		owner, err := hostLocalOwner(filepath.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		b, i, err := s.block(a, true)
		own := false
		if err == nil {
			own, err = b.heldBy(i, owner.ID())
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case b.taken(i) && !own:
			errs = append(errs, fmt.Errorf("%s: %w here, and by %s in %s", a, ErrTaken, owner, dir))
		default:
			errs = append(errs, b.take(i, owner.ID()))
			taken++
		}
	}
	if err := errors.Join(errs...); err != nil {
		return taken, err
	}
	return taken, errors.Join(s.Sync(), os.WriteFile(marker, []byte(dir+"\n"), 0o600))
}

// ReleaseHostLocal removes the files of owner's addresses from a host-local directory that was taken over, so that going back to that
// plugin finds no address leased for ever.
func ReleaseHostLocal(dir string, owner Owner, addrs ...netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		path := filepath.Join(dir, a.String())
		have, err := hostLocalOwner(path)
		if err == nil && have == owner {
			err = os.Remove(path)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// hostLocalOwner reads a lease of host-local; one of before its version 0.7 has no interface name, which was then eth0 in practice.
func hostLocalOwner(path string) (Owner, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return Owner{}, err
	}
	lines := strings.Fields(string(b))
	switch len(lines) {
	case 1:
		return Owner{ContainerID: lines[0], IfName: "eth0"}, nil
	case 2:
		return Owner{ContainerID: lines[0], IfName: lines[1]}, nil
	}
	return Owner{}, fmt.Errorf("%s is no lease of host-local: it should hold a container ID and an interface name", path)
}
