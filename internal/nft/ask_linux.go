package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// A message is one netlink message; data begins after the nfgenmsg header.
type message struct {
	typ, flags uint16
	seq, port  uint32
	body       []byte
	data       []byte
}

// messages calls f for each message of a datagram.
func messages(b []byte, f func(message)) {
	for len(b) >= headerSize {
		n := int(binary.NativeEndian.Uint32(b))
		if n < headerSize || n > len(b) {
			return
		}
		m := message{
			typ:   binary.NativeEndian.Uint16(b[4:]),
			flags: binary.NativeEndian.Uint16(b[6:]),
			seq:   binary.NativeEndian.Uint32(b[8:]),
			port:  binary.NativeEndian.Uint32(b[12:]),
			body:  b[headerSize:n],
		}
		if len(m.body) >= 4 {
			m.data = m.body[4:]
		}
		f(m)
		if n = (n + 3) &^ 3; n >= len(b) {
			return
		}
		b = b[n:]
	}
}

// err returns the error that an NLMSG_ERROR or NLMSG_DONE carries, or nil.
func (m message) err() error {
	if len(m.body) < 4 {
		return errors.New("short netlink answer")
	}
	code := int32(binary.NativeEndian.Uint32(m.body))
	if code == 0 {
		return nil
	}
	err := unix.Errno(-code)
	if text := m.reason(); text != "" {
		return fmt.Errorf("%s: %w", text, err)
	}
	return err
}

// reason is the kernel's own text about an error (extended acknowledgement).
func (m message) reason() string {
	const acked = 4 + headerSize
	if m.typ != unix.NLMSG_ERROR || m.flags&unix.NLM_F_ACK_TLVS == 0 || len(m.body) < acked {
		return ""
	}
	at := acked
	if m.flags&unix.NLM_F_CAPPED == 0 {
		at = 4 + int(binary.NativeEndian.Uint32(m.body[4:]))
	}
	if at > len(m.body) {
		return ""
	}
	text := ""
	attrs(m.body[at:], func(typ uint16, data []byte) {
		if typ == unix.NLMSGERR_ATTR_MSG {
			text = cstring(data)
		}
	})
	return text
}

var errInterrupted = errors.New("dump interrupted")

// ask sends one request and calls each for every message of the answer. The
// caller holds c.mu. Data given to each is valid only during the call.
func (c *Conn) ask(ctx context.Context, typ, flags uint16, family Family, write func(*wire), each func(message)) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	c.seq++
	var w wire
	at := w.begin(subsystem<<8|typ, flags|unix.NLM_F_ACK, family, 0)
	write(&w)
	w.end(at, c.seq)
	if err := c.sock.Send(nil, w.b); err != nil {
		return err
	}
	return c.collect(ctx, c.seq, each)
}

// collect reads answers until the one that ends request seq.
func (c *Conn) collect(ctx context.Context, seq uint32, each func(message)) error {
	wait := c.sock.Wait(ctx, timeout)
	defer wait.End()
	var result error
	for done := false; !done; {
		// A long list never waits.
		if ctx.Err() != nil {
			c.unread = true
			return context.Cause(ctx)
		}
		data, err := c.sock.Receive(wait)
		if err != nil {
			c.unread = true
			return wait.Cause(err)
		}
		messages(data, func(m message) {
			if m.seq != seq || done {
				return
			}
			if m.flags&unix.NLM_F_DUMP_INTR != 0 && result == nil {
				result = errInterrupted
			}
			switch m.typ {
			case unix.NLMSG_ERROR, unix.NLMSG_DONE:
				done = true
				if err := m.err(); err != nil {
					result = err
				}
			default:
				each(m)
			}
		})
	}
	return result
}

// drain reads what is left of a dump that was given up.
func (c *Conn) drain(ctx context.Context) error {
	err := c.collect(ctx, c.seq, func(message) {})
	var errno unix.Errno
	if err == nil || errors.Is(err, errInterrupted) || errors.As(err, &errno) {
		c.unread = false
		return nil
	}
	return err
}

// tries bounds how often an interrupted dump is begun again.
const tries = 10

// dump asks for a list until it comes uninterrupted. The kernel marks only
// some interrupted lists, those of elements never, so that the generation is
// compared as well. With anyway, an interrupted list is as good: nobody else
// can change what it is about.
func (c *Conn) dump(ctx context.Context, typ uint16, family Family, anyway bool, write func(*wire), reset func(), each func(message)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for range tries {
		reset()
		var before uint32
		var err error
		if !anyway {
			if before, err = c.generation(ctx); err != nil {
				return err
			}
		}
		err = c.ask(ctx, typ, unix.NLM_F_DUMP, family, write, each)
		if errors.Is(err, unix.ENOENT) {
			return fs.ErrNotExist
		}
		interrupted := errors.Is(err, errInterrupted) || errors.Is(err, unix.EINTR)
		if anyway && (err == nil || errors.Is(err, errInterrupted)) {
			return nil
		}
		if err != nil && !interrupted {
			return err
		}
		after, err := c.generation(ctx)
		if err != nil {
			return err
		}
		if !interrupted && before == after {
			return nil
		}
	}
	return ErrInterrupted
}
