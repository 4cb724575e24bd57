package ipvs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

const (
	// defaultTimeout is how long a call may wait whose context has no deadline: a lost answer must not hang its caller for ever.
	defaultTimeout = 60 * time.Second
	// receiveBuffer holds the answers when every request of a datagram fails; each takes some 800 bytes of it.
	receiveBuffer = 4 << 20
	sendBuffer    = 1 << 20
)

// Generic netlink's own family, which knows the others (linux/genetlink.h).
const (
	controlFamily    = 0x10
	controlGetFamily = 3
	controlID        = 1
	controlName      = 2
)

// conn is a generic netlink socket of one network namespace, for one caller at a time. The socket is mdlayher/netlink's; datagrams
// are written and read here, because many messages must go into one and only the last is acknowledged.
type conn struct {
	nl    *netlink.Conn
	raw   syscall.RawConn
	enc   encoder
	seq   uint32
	in    inbox
	dirty bool // an exchange was given up: answers to it may come

	ctx    context.Context // of the call under way
	disarm func()          // ends what arm began; nil: nothing had to be waited for
	unbind func()          // c.unbound, made once

	sending, receiving func(fd uintptr) bool // what raw calls, made once: a function for each datagram would be an allocation for each
	sent               error

	pending []operation // room for a writer
	order   []int32     // in which the keys of the last listing were
	listed  []Service   // room for them, in the kernel's order
	all     int         // how many destinations it had
	print   uint64      // hash of all services of the last listing, in the kernel's order

	closed atomic.Bool
}

// dial opens the socket inside ns; nil means the calling thread's namespace.
func dial(ns *netns.NS) (*conn, error) {
	c := &conn{}
	c.in.init()
	c.unbind, c.sending, c.receiving = c.unbound, c.trySend, c.tryReceive
	open := func() (err error) {
		c.nl, err = netlink.Dial(unix.NETLINK_GENERIC, nil)
		return err
	}
	err := error(nil)
	if ns == nil {
		err = open()
	} else {
		err = ns.Do(open)
	}
	if err != nil {
		return nil, err
	}
	if err := c.prepare(); err != nil {
		_ = c.nl.Close()
		return nil, err
	}
	return c, nil
}

func (c *conn) prepare() (err error) {
	// Short answers leave room for more of them; older kernels send long ones.
	_ = c.nl.SetOption(netlink.CapAcknowledge, true)
	_ = c.nl.SetOption(netlink.ExtendedAcknowledge, true)
	if err := c.nl.SetReadBuffer(receiveBuffer); err != nil {
		return err
	}
	if err := c.nl.SetWriteBuffer(sendBuffer); err != nil {
		return err
	}
	if c.raw, err = c.nl.SyscallConn(); err != nil {
		return err
	}
	if c.enc.family, err = c.resolve(); err != nil {
		return err
	}
	return c.nl.SetDeadline(time.Time{})
}

// resolve asks for the family's number. The kernel loads the module for it when it can.
func (c *conn) resolve() (uint16, error) {
	if err := c.nl.SetDeadline(time.Now().Add(defaultTimeout)); err != nil {
		return 0, err
	}
	ae := netlink.NewAttributeEncoder()
	ae.String(controlName, familyName)
	attrs, err := ae.Encode()
	if err != nil {
		return 0, err
	}
	replies, err := c.nl.Execute(netlink.Message{
		Header: netlink.Header{Type: controlFamily, Flags: netlink.Request},
		Data:   append([]byte{controlGetFamily, 1, 0, 0}, attrs...),
	})
	if errors.Is(err, os.ErrNotExist) {
		return 0, ErrNoIPVS
	}
	if err != nil {
		return 0, err
	}
	if len(replies) != 1 || len(replies[0].Data) < sizeGeneric {
		return 0, errMalformed
	}
	id, err := find(replies[0].Data[sizeGeneric:], controlID)
	if err == nil && len(id) < 2 {
		err = errMalformed
	}
	if err != nil {
		return 0, err
	}
	return binary.NativeEndian.Uint16(id), nil
}

func (c *conn) close() error {
	if c.closed.Swap(true) {
		return os.ErrClosed
	}
	return c.nl.Close()
}

// bound starts a call, whose waits end with ctx. The returned function must be called when it is over.
func (c *conn) bound(ctx context.Context) (stop func(), err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	c.ctx = ctx
	return c.unbind, nil
}

func (c *conn) unbound() {
	if c.disarm != nil {
		c.disarm()
		c.disarm = nil
	}
	c.ctx = nil
}

// arm comes before the first wait of a call. The kernel answers nearly every request before it is sent, and to set a deadline costs as much as a small
// exchange: those who do not wait do without.
func (c *conn) arm() {
	if c.disarm != nil {
		return
	}
	deadline, ok := c.ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(defaultTimeout)
	}
	_ = c.nl.SetDeadline(deadline) // it fails when the socket is closed: so does the wait
	done := make(chan struct{})
	release := context.AfterFunc(c.ctx, func() {
		_ = c.nl.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	c.disarm = func() {
		if !release() {
			<-done // so that it does not cut the next exchange short
		}
		_ = c.nl.SetDeadline(time.Time{})
	}
}

// cause explains a failed wait; nil stays nil.
func (c *conn) cause(ctx context.Context, err error) error {
	switch {
	case err != nil && c.closed.Load():
		return os.ErrClosed
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("the kernel did not answer in time: %w", context.DeadlineExceeded)
}

// send writes the encoder's messages as one datagram, unless the call's context has ended.
func (c *conn) send() error {
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if c.dirty {
		c.discard()
	}
	c.in.forget()
	c.dirty = true
	if err := c.raw.Write(c.sending); err != nil {
		return err
	}
	return c.sent
}

func (c *conn) trySend(fd uintptr) bool {
	_, c.sent = unix.Write(int(fd), c.enc.b)
	if c.sent != unix.EAGAIN {
		return true
	}
	c.arm()
	return false
}

// status decodes the payload of an NLMSG_ERROR or NLMSG_DONE message. Nil means success.
func (r reply) status() *kernelError {
	if len(r.payload) < 4 {
		return nil
	}
	errno := int32(binary.NativeEndian.Uint32(r.payload))
	if errno == 0 {
		return nil
	}
	e := &kernelError{errno: syscall.Errno(-errno)}
	if rest := r.payload[4:]; r.flags&unix.NLM_F_ACK_TLVS != 0 && r.flags&unix.NLM_F_CAPPED != 0 && len(rest) > sizeNetlink {
		if text, err := find(rest[sizeNetlink:], unix.NLMSGERR_ATTR_MSG); err == nil {
			a := attributes{data: text}
			e.text = string(a.text())
		}
	}
	return e
}
