package ipvs

import (
	"encoding/binary"
	"fmt"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// slotSize is as much as the kernel puts into a datagram at most, unless it is read with larger buffers (NLMSG_GOODSIZE).
	slotSize = 8 << 10
	slots    = 8
)

// inbox receives several datagrams at once. The kernel makes the next part of a dump while it hands over the one before: the destinations of a
// service, and the end of their list, come together.
type inbox struct {
	headers [slots]multiHeader
	vectors [slots]unix.Iovec
	buf     []byte

	expect int    // how many datagrams there will be as a rule: to look for one more costs as much as to receive one
	n, at  int    // datagrams received, and looked at
	rest   []byte // of the last of those
	errno  syscall.Errno
}

// multiHeader is a struct mmsghdr.
type multiHeader struct {
	unix.Msghdr
	size uint32
}

func (in *inbox) init() {
	in.buf = make([]byte, slots*slotSize)
	for i := range slots {
		in.vectors[i].Base = &in.buf[i*slotSize]
		in.vectors[i].SetLen(slotSize)
		in.headers[i].Iov = &in.vectors[i]
		in.headers[i].SetIovlen(1)
	}
}

// forget drops what was received and not looked at.
func (in *inbox) forget() { in.n, in.at, in.rest = 0, 0, nil }

// receive takes the datagrams that are there, at least one, up to what is expected.
func (in *inbox) receive(fd uintptr) {
	in.forget()
	if in.expect == 1 { // a plain read costs less
		n, _, errno := unix.Syscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&in.buf[0])), slotSize)
		if in.errno = errno; errno == 0 {
			in.n, in.headers[0].size, in.headers[0].Flags = 1, uint32(n), 0
		}
		return
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.headers[0])), uintptr(in.expect), 0, 0, 0)
	if in.errno = errno; errno == 0 {
		in.n = int(n)
	}
}

// datagram returns the i-th of those received.
func (in *inbox) datagram(i int) ([]byte, error) {
	if in.headers[i].Flags&unix.MSG_TRUNC != 0 {
		return nil, fmt.Errorf("%w: a datagram of more than %d bytes", errMalformed, slotSize)
	}
	return in.buf[i*slotSize:][:in.headers[i].size], nil
}

// discard reads what an exchange that was given up has left, and so ends its dump.
func (c *conn) discard() {
	_ = c.raw.Control(func(fd uintptr) {
		for {
			if _, err := unix.Read(int(fd), c.in.buf[:slotSize]); err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				return
			}
		}
	})
	c.dirty = false
}

// reply is one message of the kernel.
type reply struct {
	kind, flags uint16
	seq         uint32
	payload     []byte
}

// next returns the next message of the kernel's answers. Those to earlier exchanges, before first, are passed over.
func (c *conn) next(first uint32) (reply, error) {
	for {
		for len(c.in.rest) < sizeNetlink {
			if c.in.at == c.in.n {
				if err := c.receive(); err != nil {
					return reply{}, err
				}
			}
			data, err := c.in.datagram(c.in.at)
			if err != nil {
				return reply{}, err
			}
			c.in.rest = data
			c.in.at++
		}
		r, err := c.in.message()
		if err != nil {
			return reply{}, err
		}
		if int32(r.seq-first) >= 0 {
			return r, nil
		}
	}
}

// message takes the next one off the datagram.
func (in *inbox) message() (reply, error) {
	length := int(binary.NativeEndian.Uint32(in.rest))
	if length < sizeNetlink || length > len(in.rest) {
		return reply{}, fmt.Errorf("%w: message of %d bytes", errMalformed, length)
	}
	r := reply{
		kind:    binary.NativeEndian.Uint16(in.rest[4:]),
		flags:   binary.NativeEndian.Uint16(in.rest[6:]),
		seq:     binary.NativeEndian.Uint32(in.rest[8:]),
		payload: in.rest[sizeNetlink:length],
	}
	in.rest = in.rest[min((length+3)&^3, len(in.rest)):]
	return r, nil
}

// receive waits for datagrams.
func (c *conn) receive() error {
	for {
		if err := c.raw.Read(c.receiving); err != nil {
			return err
		}
		switch c.in.errno {
		case 0:
			c.in.expect = slots
			return nil
		case unix.EINTR:
		default:
			return os.NewSyscallError("recvmmsg", c.in.errno)
		}
	}
}

func (c *conn) tryReceive(fd uintptr) bool {
	c.in.receive(fd)
	if c.in.errno != unix.EAGAIN {
		return true
	}
	c.arm()
	return false
}
