package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/cni/plainfile"
)

// A block file holds 65,536 addresses: a header, a bit for each, and the owner of each that is taken.
const (
	blockSize   = 1 << 16
	headerSize  = 4096 // a page, so that the bitmap is aligned
	bitmapSize  = blockSize / 8
	ownersAt    = headerSize + bitmapSize
	blockBytes  = ownersAt + 8*blockSize
	blockMagic  = "podplumb ipam 1\n"
	blockSuffix = ".block"
)

// block is an open block file. Its bitmap is the truth: an owner without its bit means nothing. The bitmap is read once, as nobody else
// writes while the Store is locked, and owners one by one: to map the file would cost more.
type block struct {
	base   netip.Addr
	file   *os.File
	bitmap []byte
}

// blockOf returns the first address of a's block, and a's place in it.
func blockOf(a netip.Addr) (base netip.Addr, index int) {
	b := a.AsSlice()
	index = int(binary.BigEndian.Uint16(b[len(b)-2:]))
	b[len(b)-2], b[len(b)-1] = 0, 0
	base, _ = netip.AddrFromSlice(b)
	return base, index
}

func blockPath(dir string, base netip.Addr) string {
	return filepath.Join(dir, strings.ReplaceAll(base.StringExpanded(), ":", "-")+blockSuffix)
}

// openBlock opens the block that begins at base. Without create, a block that does not exist is fs.ErrNotExist.
func openBlock(dir string, base netip.Addr, create bool) (*block, error) {
	path := blockPath(dir, base)
	flags := unix.O_RDWR
	if create {
		flags |= unix.O_CREAT
	}
	f, err := plainfile.Open(path, flags, 0o600)
	if err != nil {
		return nil, err
	}
	b := &block{base: base, file: f}
	if err := b.load(); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *block) load() error {
	info, err := b.file.Stat()
	if err != nil {
		return err
	}
	switch info.Size() {
	case blockBytes:
	case 0: // new, or its maker died before it said how large it is
		if err := b.file.Truncate(blockBytes); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s has %d bytes instead of %d: it is damaged; restore it, or drain the node and remove it", b.file.Name(), info.Size(), blockBytes)
	}
	magic := make([]byte, len(blockMagic))
	if _, err := b.file.ReadAt(magic, 0); err != nil {
		return err
	}
	switch got := string(magic); got {
	case blockMagic:
	case strings.Repeat("\x00", len(blockMagic)):
		if _, err := b.file.WriteAt([]byte(blockMagic), 0); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is no lease file of this version (%q)", b.file.Name(), got)
	}
	b.bitmap = make([]byte, bitmapSize)
	_, err = b.file.ReadAt(b.bitmap, headerSize)
	return err
}

func (b *block) close() error { return b.file.Close() }

// sync makes the block survive a loss of power.
func (b *block) sync() error { return unix.Fdatasync(int(b.file.Fd())) }

func (b *block) taken(i int) bool { return b.bitmap[i/8]&(1<<(i%8)) != 0 }

// heldBy reports whether an address is taken by owner.
func (b *block) heldBy(i int, owner uint64) (bool, error) {
	if !b.taken(i) {
		return false, nil
	}
	var id [8]byte
	_, err := b.file.ReadAt(id[:], int64(ownersAt+8*i))
	return binary.NativeEndian.Uint64(id[:]) == owner, err
}

// take writes the owner before the bit: a kill between the two leaves the address free.
func (b *block) take(i int, owner uint64) error {
	if _, err := b.file.WriteAt(binary.NativeEndian.AppendUint64(nil, owner), int64(ownersAt+8*i)); err != nil {
		return err
	}
	return b.setByte(i, b.bitmap[i/8]|1<<(i%8))
}

func (b *block) free(i int) error { return b.setByte(i, b.bitmap[i/8]&^(1<<(i%8))) }

func (b *block) setByte(i int, v byte) error {
	_, err := b.file.WriteAt([]byte{v}, int64(headerSize+i/8))
	if err == nil {
		b.bitmap[i/8] = v
	}
	return err
}

// nextFree returns the first free index in [from, to], or -1. It looks at 64 addresses at a time.
func (b *block) nextFree(from, to int) int {
	for i := from; i <= to; {
		word := binary.LittleEndian.Uint64(b.bitmap[i/64*8:])
		if free := ^word >> (i % 64); free != 0 {
			if i += bits.TrailingZeros64(free); i <= to {
				return i
			}
			return -1
		}
		i = i/64*64 + 64
	}
	return -1
}

// used counts what is taken in [from, to].
func (b *block) used(from, to int) (n int) {
	for i := from; i <= to; {
		word := binary.LittleEndian.Uint64(b.bitmap[i/64*8:]) >> (i % 64)
		if left := to - i + 1; left < 64-i%64 {
			word &= 1<<left - 1
		}
		n += bits.OnesCount64(word)
		i = i/64*64 + 64
	}
	return n
}

// each calls fn for every taken index. It reads the owners of 64 addresses at a time.
func (b *block) each(fn func(i int, owner uint64)) error {
	owners := make([]byte, 64*8)
	for w := range bitmapSize / 8 {
		word := binary.LittleEndian.Uint64(b.bitmap[8*w:])
		if word == 0 {
			continue
		}
		if _, err := b.file.ReadAt(owners, int64(ownersAt+w*len(owners))); err != nil {
			return err
		}
		for ; word != 0; word &= word - 1 {
			n := bits.TrailingZeros64(word)
			fn(w*64+n, binary.NativeEndian.Uint64(owners[8*n:]))
		}
	}
	return nil
}

// addr returns the address at index i.
func (b *block) addr(i int) netip.Addr {
	s := b.base.AsSlice()
	binary.BigEndian.PutUint16(s[len(s)-2:], uint16(i))
	a, _ := netip.AddrFromSlice(s)
	return a
}
