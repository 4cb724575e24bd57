package rtnl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nlsock"
	"github.com/podplumb/podplumb/netns"
)

const (
	// DefaultTimeout bounds a call whose context has no deadline: a lost answer must not hang its caller for ever. Deleting
	// thousands of links by group takes seconds, so it is generous.
	DefaultTimeout = 60 * time.Second
	// dumpTries bounds how often an interrupted dump is repeated.
	dumpTries = 20
	// bufferSize lets the kernel fill a dump with few datagrams; 32 KiB is the most it uses for one.
	bufferSize = 64 << 10
)

// Conn is a lasting rtnetlink socket of one network namespace. It is safe for concurrent use; calls take turns.
type Conn struct {
	mu   sync.Mutex
	sock *nlsock.Socket
	seq  uint32
}

// Open opens a connection inside ns; nil means the namespace of the calling thread. The namespace may be closed afterwards.
func Open(ns *netns.NS) (*Conn, error) {
	s, err := openSocket(ns, 0)
	if err != nil {
		return nil, err
	}
	// All are best effort: without them error texts are poorer and dumps are filtered here instead of in the kernel.
	_ = s.SetOption(unix.NETLINK_EXT_ACK, 1)
	_ = s.SetOption(unix.NETLINK_CAP_ACK, 1)
	_ = s.SetOption(unix.NETLINK_GET_STRICT_CHK, 1)
	return &Conn{sock: s}, nil
}

// Close closes the socket; calls under way fail with os.ErrClosed.
func (c *Conn) Close() error { return c.sock.Close() }

// request is a message under construction.
type request struct{ *nl.NetlinkRequest }

func newRequest(kind, flags int, header []byte) request {
	r := request{&nl.NetlinkRequest{}}
	r.Type = uint16(kind)
	r.Flags = uint16(flags | unix.NLM_F_REQUEST)
	r.Len = unix.SizeofNlMsghdr
	r.AddData(raw(header))
	return r
}

func (r request) add(a *nl.RtAttr) { r.AddData(a) }

// do sends a request and waits for its acknowledgement. each, if not nil, gets the messages that come before that.
func (c *Conn) do(ctx context.Context, r request, each func(kind uint16, payload []byte)) error {
	r.Flags |= unix.NLM_F_ACK
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.exchange(ctx, r, each)
	return err
}

// get sends a request for one object, whose answer is one message or an error, without an acknowledgement.
func (c *Conn) get(ctx context.Context, r request, each func(kind uint16, payload []byte)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, err := c.exchange(ctx, r, each)
	return err
}

// dump sends a dump request, repeated until the kernel says that it showed one consistent table. reset is called before each try.
func (c *Conn) dump(ctx context.Context, r request, reset func(), each func(kind uint16, payload []byte)) error {
	r.Flags |= unix.NLM_F_DUMP
	c.mu.Lock()
	defer c.mu.Unlock()
	for try := range dumpTries {
		reset()
		interrupted, err := c.exchange(ctx, r, each)
		if errors.Is(err, unix.EINTR) {
			interrupted, err = true, nil
		}
		if err != nil {
			return err
		}
		if !interrupted {
			return nil
		}
		if try > 2 {
			time.Sleep(time.Duration(try) * time.Millisecond)
		}
	}
	return ErrDumpInterrupted
}

// exchange sends r and reads until its acknowledgement, the end of its dump, or the one answer. Answers to earlier requests, which a caller gave up
// waiting for, are passed over by their sequence number.
func (c *Conn) exchange(ctx context.Context, r request, each func(kind uint16, payload []byte)) (interrupted bool, err error) {
	c.seq++
	r.Seq = c.seq
	if ctx.Err() != nil {
		return false, context.Cause(ctx)
	}
	wait := c.sock.Wait(ctx, DefaultTimeout)
	defer wait.End()
	if err := c.sock.Send(wait, r.Serialize()); err != nil {
		return false, wait.Cause(err)
	}
	for {
		data, err := c.sock.Receive(wait)
		if err != nil {
			return false, wait.Cause(err)
		}
		for len(data) >= unix.SizeofNlMsghdr {
			h := header(data)
			if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(data) {
				return false, fmt.Errorf("malformed netlink message of %d bytes", h.Len)
			}
			payload := data[unix.SizeofNlMsghdr:h.Len]
			data = data[min(align(int(h.Len)), len(data)):]
			if h.Seq != c.seq {
				continue
			}
			interrupted = interrupted || h.Flags&unix.NLM_F_DUMP_INTR != 0
			switch h.Type {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				return interrupted, parseError(&h, payload)
			case unix.NLMSG_NOOP, unix.NLMSG_OVERRUN:
			default:
				if each != nil {
					each(h.Type, payload)
				}
				if r.Flags&(unix.NLM_F_ACK|unix.NLM_F_DUMP) == 0 {
					return interrupted, nil
				}
			}
		}
	}
}

// byteOrder has netlink find out the machine's byte order, which it keeps in a variable without a lock at the first use.
var byteOrder = sync.OnceFunc(func() { nl.NativeEndian() })

// openSocket opens a socket inside ns (nil: the calling thread's namespace) that hears the multicast groups in the mask.
func openSocket(ns *netns.NS, groups uint32) (*nlsock.Socket, error) {
	byteOrder()
	return nlsock.Open(ns, unix.NETLINK_ROUTE, groups, bufferSize)
}

func header(b []byte) unix.NlMsghdr { return *(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) }
