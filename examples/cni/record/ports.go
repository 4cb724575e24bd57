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

// A claim is a symbolic link .node/ports/PROTOCOL-PORT/ADDRESS to the attachment's file: made in one system call, and void when the file
// is gone. An unspecified address stands for all of its family, and so claims the port for itself.

func (s Store) portDir(k nat.Key) string {
	return filepath.Join(s.Dir, nodeDir, "ports", fmt.Sprintf("%s-%d", k.Proto, k.Port))
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
		dir := s.portDir(p)
		target := filepath.Join("..", "..", "..", k.Network, "attachments", FileName(k.ContainerID, k.IfName))
		err := os.Symlink(target, filepath.Join(dir, p.Addr.String()))
		if errors.Is(err, fs.ErrNotExist) {
			if err = os.MkdirAll(dir, 0o700); err == nil {
				err = os.Symlink(target, filepath.Join(dir, p.Addr.String()))
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
	dir := s.portDir(p)
	list, err := names(dir, -1)
	if err != nil {
		return "", err
	}
	for _, name := range list {
		have, err := netip.ParseAddr(name)
		if err != nil || have.Is4() != p.Addr.Is4() {
			continue
		}
		path := filepath.Join(dir, name)
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if by := claimant(target); by == k.Network+"/"+FileName(k.ContainerID, k.IfName) {
			continue
		} else if _, err := os.Stat(path); err == nil {
			if have == p.Addr || have.IsUnspecified() || p.Addr.IsUnspecified() {
				return by, nil
			}
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", nil
}

// claimant is the network and file name that a claim points to.
func claimant(target string) string {
	return strings.TrimPrefix(strings.Replace(target, "/attachments/", "/", 1), "../../../")
}

// HoldsPort reports whether p is claimed by k.
func (s Store) HoldsPort(k Key, p nat.Key) bool {
	target, err := os.Readlink(filepath.Join(s.portDir(p), p.Addr.String()))
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
				errs = append(errs, os.Remove(filepath.Join(s.portDir(p), p.Addr.String()))) // the directory stays for the next, until a sweep
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
	for _, port := range ports {
		claims, err := names(filepath.Join(dir, port), -1)
		errs = append(errs, err)
		for _, name := range claims {
			path := filepath.Join(dir, port, name)
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, os.Remove(path))
			}
		}
		_ = os.Remove(filepath.Join(dir, port)) // fails while there are other claims
	}
	return errors.Join(errs...)
}
