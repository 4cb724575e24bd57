package nft

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nlsock"
	"github.com/podplumb/podplumb/netns"
)

// A Conn is one lasting nftables socket in one network namespace. Its methods
// may be called from several goroutines; they take turns.
type Conn struct {
	mu    sync.Mutex
	sock  *nlsock.Socket
	seq   uint32
	limit int
	// unread is set while answers of a dump that was given up may still
	// come; the socket is of no use then.
	unread bool
}

const (
	// timeout bounds the wait for an answer when the context does not.
	timeout = 30 * time.Second
	// receive is the size of the receive buffer. The kernel fills answers
	// of dumps up to 32 KiB when the reader has room for them.
	receive = 256 << 10
	// sendLimit and receiveLimit are what the socket may queue.
	sendLimit    = 64 << 20
	receiveLimit = 8 << 20
)

// Open opens a socket in the network namespace that fd refers to, or in the
// caller's for fd 0.
func Open(fd int) (*Conn, error) {
	sock, err := openSocket(fd)
	if err != nil {
		return nil, fmt.Errorf("opening a netfilter netlink socket: %w", err)
	}
	return newConn(sock)
}

// Share opens a connection through a socket that others use in turn, and whose
// tables are this connection's too. It keeps a duplicate.
func Share(file *os.File) (*Conn, error) {
	sock, err := nlsock.Adopt(file, receive)
	if err != nil {
		return nil, fmt.Errorf("sharing a netfilter netlink socket: %w", err)
	}
	c, err := newConn(sock)
	if err == nil {
		c.seq = rand.Uint32() >> 1 // not that of an answer to another
	}
	return c, err
}

func newConn(sock *nlsock.Socket) (c *Conn, err error) {
	c = &Conn{sock: sock}
	// The sizes are limits, not memory. Without CAP_NET_ADMIN in the first
	// user namespace they stay at what the system allows.
	_ = sock.SetWriteBuffer(sendLimit)
	_ = sock.SetReadBuffer(receiveLimit)
	// Errors need not repeat what they are about.
	_ = sock.SetOption(unix.NETLINK_CAP_ACK, 1)
	_ = sock.SetOption(unix.NETLINK_EXT_ACK, 1)
	if c.limit, err = sock.WriteBuffer(); err != nil {
		_ = sock.Close()
		return nil, fmt.Errorf("opening a netfilter netlink socket: %w", err)
	}
	return c, nil
}

// openSocket enters the namespace only if the caller is in another one.
func openSocket(fd int) (*nlsock.Socket, error) {
	var there *netns.NS
	if fd != 0 && !isHere(fd) {
		var err error
		if there, err = netns.Open(fmt.Sprintf("/proc/self/fd/%d", fd)); err != nil {
			return nil, err
		}
		defer there.Close()
	}
	sock, err := nlsock.Open(there, unix.NETLINK_NETFILTER, 0, receive)
	if errors.Is(err, unix.EPERM) {
		err = fmt.Errorf("entering another network namespace needs CAP_SYS_ADMIN: %w", err)
	}
	return sock, err
}

// isHere says that fd refers to the namespace of the calling thread.
func isHere(fd int) bool {
	here, err := netns.Current()
	if err != nil {
		return false
	}
	defer here.Close()
	var there, own unix.Stat_t
	return unix.Fstat(fd, &there) == nil && unix.Fstat(here.Fd(), &own) == nil && there.Dev == own.Dev && there.Ino == own.Ino
}

// Dial opens a plain netfilter netlink socket as Open does. To enter a namespace
// takes CAP_SYS_ADMIN, to use the one that the caller is in does not.
func Dial(fd int) (*netlink.Conn, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: fd})
	if !errors.Is(err, unix.EPERM) {
		return nl, err
	}
	if isHere(fd) {
		return netlink.Dial(unix.NETLINK_NETFILTER, nil)
	}
	return nil, fmt.Errorf("entering another network namespace needs CAP_SYS_ADMIN: %w", err)
}

// Limit is the size of the largest batch that the socket takes, in bytes.
func (c *Conn) Limit() int { return c.limit - 4096 }

// PortID is the socket's address, which marks its changes in notifications
// and the tables that it owns.
func (c *Conn) PortID() uint32 { return c.sock.Port() }

// Close closes the socket. Tables that it owns stay.
func (c *Conn) Close() error { return c.sock.Close() }

// Generation returns the number of the ruleset's current state. It changes
// with every transaction in the namespace.
func (c *Conn) Generation(ctx context.Context) (uint32, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.generation(ctx)
}

func (c *Conn) generation(ctx context.Context) (uint32, error) {
	var gen uint32
	err := c.ask(ctx, unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC, func(*wire) {}, func(m message) {
		attrs(m.data, func(typ uint16, data []byte) {
			if typ == unix.NFTA_GEN_ID {
				gen = be32(data)
			}
		})
	})
	return gen, err
}

// Know makes what the caller knows of a table right: by load, unless it is known and nobody has changed the ruleset since the generation that gen
// points to. sole says whether nobody else can change the table; load may find that out. After an error nothing is known.
func (c *Conn) Know(ctx context.Context, gen *uint32, known bool, sole func() bool, load func(context.Context) error) error {
	if known && sole() {
		return nil
	}
	now, err := c.Generation(ctx)
	if err != nil || known && now == *gen {
		return err
	}
	for range tries {
		if err := load(ctx); err != nil {
			return err
		}
		*gen = now
		if now, err = c.Generation(ctx); err != nil {
			return err
		}
		if now == *gen || sole() {
			return nil
		}
	}
	return ErrInterrupted
}

// Commit does the batch whole or, with an error, not at all. A gen other than
// zero makes it fail with ErrStale unless the ruleset is still in that
// generation. A batch that was sent is completed whatever ctx does.
func (c *Conn) Commit(ctx context.Context, b *Batch, gen uint32) error {
	if b.err != nil {
		return b.err
	}
	if b.Empty() {
		return nil
	}
	if b.Len() > c.Limit() {
		return ErrTooBig
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(ctx); err != nil {
		return err
	}
	data, last := b.finish(gen)
	if err := c.sock.Send(nil, data...); err != nil {
		return err
	}
	// The kernel has done the batch and queued all answers by now.
	var first error
	acked := false
	for {
		data, err := c.sock.Receive(nil)
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			return err
		}
		messages(data, func(m message) {
			if m.typ != unix.NLMSG_ERROR {
				return
			}
			if err := m.err(); err != nil && first == nil {
				first = commitError(err)
			}
			acked = acked || m.seq == last
		})
	}
	if first == nil && !acked {
		return errors.New("the kernel did not answer a transaction")
	}
	return first
}

func commitError(err error) error {
	if errors.Is(err, unix.ERESTART) {
		return ErrStale
	}
	return err
}

// usable fails when ctx is done or a dump was left unread.
func (c *Conn) usable(ctx context.Context) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if c.unread {
		return c.drain(ctx)
	}
	return nil
}

// receiveInto waits for a datagram, as long as the deadline allows.
func receiveInto(nl *netlink.Conn, buf []byte) (int, error) {
	raw, err := nl.SyscallConn()
	if err != nil {
		return 0, err
	}
	var n int
	var got error
	err = raw.Read(func(fd uintptr) bool {
		n, _, got = unix.Recvfrom(int(fd), buf, 0)
		return !errors.Is(got, unix.EAGAIN) && !errors.Is(got, unix.EINTR)
	})
	if err == nil {
		err = got
	}
	return n, err
}
