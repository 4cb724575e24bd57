package ipam

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/cni/plainfile"
)

// Owner is an attachment that holds addresses: a container and the name of its interface.
type Owner struct {
	ContainerID string
	IfName      string
}

// String prints the owner as containerID/ifname.
func (o Owner) String() string { return o.ContainerID + "/" + o.IfName }

// ID is what a Store remembers of an owner: 64 bits of a SHA-256.
func (o Owner) ID() uint64 {
	sum := sha256.Sum256([]byte(o.ContainerID + "\x00" + o.IfName))
	return max(binary.BigEndian.Uint64(sum[:]), 1)
}

// Lease is an address that was handed out.
type Lease struct {
	Addr    netip.Addr
	Subnet  netip.Prefix
	Gateway netip.Addr
}

// Prefix is the address with the prefix length of its subnet, as it is set on an interface.
func (l Lease) Prefix() netip.Prefix { return netip.PrefixFrom(l.Addr, l.Subnet.Bits()) }

var (
	// ErrFull says that every range of a set is used up.
	ErrFull = errors.New("no address is free")
	// ErrTaken says that a requested address belongs to another owner.
	ErrTaken = errors.New("address is taken")
	// ErrOutside says that a requested address is in no range, or was requested twice.
	ErrOutside = errors.New("address is in no range of the network, or asked for twice")
)

// Store is the open, locked directory of one network's leases. Close it soon: others wait.
type Store struct {
	dir    string
	lock   *os.File
	blocks map[netip.Addr]*block
}

// Open makes the directory if it is missing, and waits for its lock until ctx ends.
func Open(ctx context.Context, dir string) (*Store, error) {
	f, err := plainfile.Open(filepath.Join(dir, "lock"), unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := plainfile.Lock(ctx, f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &Store{dir: dir, lock: f, blocks: map[netip.Addr]*block{}}, nil
}

// Close lets the next process in.
func (s *Store) Close() error {
	var errs []error
	for _, b := range s.blocks {
		errs = append(errs, b.close())
	}
	return errors.Join(append(errs, s.lock.Close())...)
}

// block returns the block of a and a's index in it. Without create a missing block is nil.
func (s *Store) block(a netip.Addr, create bool) (*block, int, error) {
	base, i := blockOf(a)
	if b := s.blocks[base]; b != nil {
		return b, i, nil
	}
	b, err := openBlock(s.dir, base, create)
	if errors.Is(err, fs.ErrNotExist) && !create {
		return nil, i, nil
	}
	if err == nil {
		s.blocks[base] = b
	}
	return b, i, err
}

// Allocate leases one address of each set to owner, or none at all. Requested addresses are used for the sets that contain them; one
// that no set contains, or that belongs to another owner (ErrTaken), is an error. A set without a free address is ErrFull.
func (s *Store) Allocate(owner Owner, sets []Set, requested ...netip.Addr) (leases []Lease, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, l := range leases {
			_ = s.Release(owner, l.Addr)
		}
		leases = nil
	}()
	asked := slices.Clone(requested)
	for n, set := range sets {
		at := slices.IndexFunc(asked, set.contains)
		var l Lease
		if at >= 0 {
			l, err = s.claim(owner, set, asked[at])
			asked = slices.Delete(asked, at, at+1)
		} else {
			l, err = s.next(owner, set)
		}
		if err != nil {
			return leases, fmt.Errorf("ranges[%d]: %w", n, err)
		}
		leases = append(leases, l)
	}
	if len(asked) > 0 {
		return leases, fmt.Errorf("requested %s: %w", asked[0], ErrOutside)
	}
	return leases, nil
}

func (set Set) contains(a netip.Addr) bool {
	return slices.ContainsFunc(set, func(r Range) bool { return r.Contains(a) })
}

// claim leases one given address.
func (s *Store) claim(owner Owner, set Set, a netip.Addr) (Lease, error) {
	b, i, err := s.block(a, true)
	if err != nil {
		return Lease{}, err
	}
	own, err := b.heldBy(i, owner.ID())
	if err != nil {
		return Lease{}, err
	}
	if b.taken(i) && !own {
		return Lease{}, fmt.Errorf("%s: %w by another container", a, ErrTaken)
	}
	r := set[slices.IndexFunc(set, func(r Range) bool { return r.Contains(a) })]
	return Lease{Addr: a, Subnet: r.Subnet, Gateway: r.Gateway}, b.take(i, owner.ID())
}

// next leases the first free address after the one that the set handed out last.
func (s *Store) next(owner Owner, set Set) (Lease, error) {
	last, at := s.cursor(set)
	for turn := range len(set) + 1 {
		r := &set[(at+turn)%len(set)]
		from, to := r.Start, r.End
		switch {
		case turn == 0 && last.IsValid() && r.contains(last) && last != r.End:
			from = last.Next()
		case turn == 0 && last.IsValid() && last == r.End:
			continue
		case turn == len(set) && !last.IsValid():
			continue
		case turn == len(set):
			to = last // the part of the first range that the first turn left out
		}
		a, err := s.take(owner, r, from, to)
		if err != nil {
			return Lease{}, err
		}
		if a.IsValid() {
			return Lease{Addr: a, Subnet: r.Subnet, Gateway: r.Gateway}, s.setCursor(set, a)
		}
	}
	return Lease{}, fmt.Errorf("%s: %w", set, ErrFull)
}

func (r *Range) contains(a netip.Addr) bool { return !a.Less(r.Start) && !r.End.Less(a) }

// take leases the first free address of [from, to], or returns the zero Addr.
func (s *Store) take(owner Owner, r *Range, from, to netip.Addr) (netip.Addr, error) {
	for !to.Less(from) {
		b, i, err := s.block(from, true)
		if err != nil {
			return netip.Addr{}, err
		}
		end := blockSize - 1
		if base, j := blockOf(to); base == b.base {
			end = j
		}
		for ; i <= end; i++ {
			if i = b.nextFree(i, end); i < 0 {
				break
			}
			if a := b.addr(i); r.Contains(a) {
				return a, b.take(i, owner.ID())
			}
		}
		from = b.addr(blockSize - 1).Next()
		if !from.IsValid() {
			break
		}
	}
	return netip.Addr{}, nil
}

// String lists the ranges of the set.
func (set Set) String() string {
	parts := make([]string, len(set))
	for i, r := range set {
		parts[i] = r.String()
	}
	return strings.Join(parts, ", ")
}

// Release gives back those of addrs that owner holds.
func (s *Store) Release(owner Owner, addrs ...netip.Addr) error {
	var errs []error
	for _, a := range addrs {
		b, i, err := s.block(a, false)
		own := false
		if err == nil && b != nil {
			own, err = b.heldBy(i, owner.ID())
		}
		if own && err == nil {
			err = b.free(i)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// Holds reports whether owner holds a.
func (s *Store) Holds(owner Owner, a netip.Addr) (bool, error) {
	b, i, err := s.block(a, false)
	if err != nil || b == nil {
		return false, err
	}
	return b.heldBy(i, owner.ID())
}

// Leases finds every address that owner holds by looking at all of them. It is for an owner that died before it could write down what
// it was given.
func (s *Store) Leases(owner Owner) ([]netip.Addr, error) {
	var out []netip.Addr
	err := s.each(func(b *block, i int, id uint64) error {
		if id == owner.ID() {
			out = append(out, b.addr(i))
		}
		return nil
	})
	return out, err
}

// Retain gives back every address whose owner is not kept, and returns them.
func (s *Store) Retain(keep func(owner uint64) bool) ([]netip.Addr, error) {
	var out []netip.Addr
	err := s.each(func(b *block, i int, id uint64) error {
		if keep(id) {
			return nil
		}
		out = append(out, b.addr(i))
		return b.free(i)
	})
	return out, err
}

// Each calls fn for every leased address, with the ID of its owner.
func (s *Store) Each(fn func(a netip.Addr, owner uint64)) error {
	return s.each(func(b *block, i int, owner uint64) error { fn(b.addr(i), owner); return nil })
}

func (s *Store) each(fn func(b *block, i int, owner uint64) error) error {
	blocks, err := s.all()
	errs := []error{err}
	for _, b := range blocks {
		err := b.each(func(i int, owner uint64) { errs = append(errs, fn(b, i, owner)) })
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// all opens every block that exists.
func (s *Store) all() ([]*block, error) {
	names, err := filepath.Glob(filepath.Join(s.dir, "*"+blockSuffix))
	if err != nil {
		return nil, err
	}
	var blocks []*block
	var errs []error
	for _, name := range names {
		text := strings.TrimSuffix(filepath.Base(name), blockSuffix)
		base, err := netip.ParseAddr(strings.ReplaceAll(text, "-", ":"))
		if err != nil {
			errs = append(errs, fmt.Errorf("%s does not belong here: its name is no address", name))
			continue
		}
		b, _, err := s.block(base, false)
		if errs = append(errs, err); b != nil {
			blocks = append(blocks, b)
		}
	}
	return blocks, errors.Join(errs...)
}

// Free counts the addresses of a set that are not leased, at most 1<<31 for each range.
func (s *Store) Free(set Set) (int, error) {
	blocks, err := s.all()
	if err != nil {
		return 0, err
	}
	free := 0
	for i := range set {
		r := &set[i]
		n := r.Size()
		for _, b := range blocks {
			first, last := b.addr(0), b.addr(blockSize-1)
			if first.BitLen() != r.Start.BitLen() || last.Less(r.Start) || r.End.Less(first) {
				continue
			}
			from, to := 0, blockSize-1
			if first.Less(r.Start) {
				_, from = blockOf(r.Start)
			}
			if r.End.Less(last) {
				_, to = blockOf(r.End)
			}
			n -= b.used(from, to)
		}
		free += max(n, 0)
	}
	return free, nil
}

// Sync makes what was allocated survive a loss of power.
func (s *Store) Sync() error {
	var errs []error
	for _, b := range s.blocks {
		errs = append(errs, b.sync())
	}
	return errors.Join(errs...)
}

// cursorPath names the file that remembers which address a set handed out last.
func (s *Store) cursorPath(set Set) string {
	sum := sha256.Sum256([]byte(set.String()))
	return filepath.Join(s.dir, fmt.Sprintf("%x.last", sum[:8]))
}

// cursor returns the address that the set handed out last and its range; the zero Addr when there is none.
func (s *Store) cursor(set Set) (netip.Addr, int) {
	// It only spreads the use of addresses, so a cursor that cannot be read is no fault.
	b, err := plainfile.Read(s.cursorPath(set))
	if err != nil {
		return netip.Addr{}, 0
	}
	a, err := netip.ParseAddr(strings.TrimSpace(string(b)))
	if err != nil {
		return netip.Addr{}, 0
	}
	if at := slices.IndexFunc(set, func(r Range) bool { return r.contains(a) }); at >= 0 {
		return a, at
	}
	return netip.Addr{}, 0
}

func (s *Store) setCursor(set Set, a netip.Addr) error {
	return plainfile.Overwrite(s.cursorPath(set), fmt.Appendf(nil, "%-45s\n", a))
}
