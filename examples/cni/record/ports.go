package record

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/nat"
)

// PortTakenError says that a host port belongs to another attachment. It is fs.ErrExist to errors.Is.
type PortTakenError struct {
	Port nat.Key
	By   string // network/containerID@ifname
}

// Error names the port and its holder.
func (e *PortTakenError) Error() string {
	return fmt.Sprintf("host port %s belongs to %s", e.Port, e.By)
}

// Is reports whether target is fs.ErrExist.
func (e *PortTakenError) Is(target error) bool { return target == fs.ErrExist }

// A claim is a symbolic link to the attachment's file: made in one system call, and void when the file is gone. That of a port on all
// addresses of a family is .node/ports/PROTOCOL-PORT@ADDRESS, and claims the port for itself; that on one address is
// .node/ports/PROTOCOL-PORT/ADDRESS.

func (s Store) portDir(k nat.Key) string {
	return filepath.Join(s.Dir, nodeDir, "ports", fmt.Sprintf("%s-%d", k.Proto, k.Port))
}

// claim is the path of a port's claim, and the way from its directory to those of the networks.
func (s Store) claim(k nat.Key) (path, up string) {
	if k.Addr.IsUnspecified() {
		return s.portDir(k) + "@" + k.Addr.String(), "../.."
	}
	return filepath.Join(s.portDir(k), k.Addr.String()), "../../.."
}

// ClaimPorts claims all of ports for k, or none of them when one is taken (every *PortTakenError, joined).
func (s Store) ClaimPorts(ctx context.Context, k Key, ports []nat.Key) (err error) {
	unlock, err := s.LockNode(ctx, "ports")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	var faults []error
	for _, p := range ports {
		by, err := s.holder(p, k)
		if err != nil {
			return err
		}
		if by != "" {
			faults = append(faults, &PortTakenError{Port: p, By: by})
		}
	}
	if len(faults) > 0 {
		return errors.Join(faults...)
	}
	for _, p := range ports {
		path, up := s.claim(p)
		target := filepath.Join(up, k.Network, "attachments", FileName(k.ContainerID, k.IfName))
		err := os.Symlink(target, path)
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(filepath.Dir(path), 0o700); err == nil {
				err = os.Symlink(target, path)
			}
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	return nil
}

// holder names the attachment other than k that keeps p from being claimed, and removes claims that are void.
func (s Store) holder(p nat.Key, k Key) (string, error) {
	all := p
	all.Addr = netip.IPv4Unspecified()
	if p.Addr.Is6() {
		all.Addr = netip.IPv6Unspecified()
	}
	claims := []nat.Key{all}
	list, err := names(s.portDir(p), -1)
	if err != nil {
		return "", err
	}
	for _, name := range list {
		one := p
		one.Addr, err = netip.ParseAddr(name)
		if err == nil && one.Addr.Is4() == p.Addr.Is4() && (one.Addr == p.Addr || p.Addr.IsUnspecified()) {
			claims = append(claims, one)
		}
	}
	for _, c := range claims {
		path, _ := s.claim(c)
		target, err := os.Readlink(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		by := claimant(target)
		if by == k.Network+"/"+FileName(k.ContainerID, k.IfName) {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			return by, nil
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// claimant is the network and file name that a claim points to.
func claimant(target string) string {
	return strings.TrimLeft(strings.Replace(target, "/attachments/", "/", 1), "./")
}

// HoldsPort reports whether p is claimed by k.
func (s Store) HoldsPort(k Key, p nat.Key) bool {
	path, _ := s.claim(p)
	target, err := os.Readlink(path)
	return err == nil && claimant(target) == k.Network+"/"+FileName(k.ContainerID, k.IfName)
}

// Claims are host ports of one attachment.
type Claims struct {
	Key
	Ports []nat.Key
}

// ReleasePorts gives back those ports that their attachments have claimed.
func (s Store) ReleasePorts(ctx context.Context, gone ...Claims) (err error) {
	if !slices.ContainsFunc(gone, func(c Claims) bool { return len(c.Ports) > 0 }) {
		return nil
	}
	unlock, err := s.LockNode(ctx, "ports")
	if err != nil {
		return err
	}
	errs := []error{}
	for _, c := range gone {
		for _, p := range c.Ports {
			if s.HoldsPort(c.Key, p) {
				path, _ := s.claim(p) // its directory, if any, stays for the next, until a sweep
				errs = append(errs, os.Remove(path))
			}
		}
	}
	return errors.Join(append(errs, unlock())...)
}

// SweepPorts removes claims whose attachment is gone.
func (s Store) SweepPorts(ctx context.Context) (err error) {
	unlock, err := s.LockNode(ctx, "ports")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	dir := filepath.Join(s.Dir, nodeDir, "ports")
	ports, err := names(dir, -1)
	errs := []error{err}
	void := func(path string) {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, os.Remove(path))
		}
	}
	for _, port := range ports {
		if strings.Contains(port, "@") {
			void(filepath.Join(dir, port))
			continue
		}
		claims, err := names(filepath.Join(dir, port), -1)
		errs = append(errs, err)
		for _, name := range claims {
			void(filepath.Join(dir, port, name))
		}
		_ = os.Remove(filepath.Join(dir, port)) // fails while there are other claims
	}
	return errors.Join(errs...)
}
