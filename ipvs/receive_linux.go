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

// read returns how many datagrams there are, at least one, up to most.
func (in *inbox) read(raw syscall.RawConn, most int) (n int, err error) {
	if most == 1 {
		return in.readOne(raw)
	}
	var errno syscall.Errno
	if rerr := raw.Read(func(fd uintptr) bool {
		var got uintptr
		got, _, errno = unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.headers[0])), uintptr(most), 0, 0, 0)
		n = int(got)
		return errno != unix.EAGAIN
	}); rerr != nil {
		return 0, rerr
	}
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

// readOne costs less where one is all there is.
func (in *inbox) readOne(raw syscall.RawConn) (int, error) {
	var n int
	var err error
	if rerr := raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), in.buf[:slotSize])
		return err != unix.EAGAIN
	}); rerr != nil {
		return 0, rerr
	}
	if err != nil {
		return 0, err
	}
	in.headers[0].size, in.headers[0].Flags = uint32(n), 0
	return 1, nil
}

// datagram returns the i-th of those read.
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

// receive hands over the messages that come until each says that it has had enough. Answers to earlier exchanges, before first, are
// passed over. expect is how many datagrams there are as a rule: to look for one more costs as much as to receive one.
func (c *conn) receive(first uint32, expect int, each func(r reply) (done bool, err error)) error {
	for ; ; expect = slots {
		n, err := c.in.read(c.raw, expect)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			if errno, ok := err.(syscall.Errno); ok { //nolint:errorlint // not wrapped by read
				return os.NewSyscallError("recvmmsg", errno)
			}
			return err
		}
		for i := range n {
			data, err := c.in.datagram(i)
			if err != nil {
				return err
			}
			if done, err := c.messages(data, first, each); done || err != nil {
				c.dirty = err != nil
				return err
			}
		}
	}
}

// messages hands over those of one datagram.
func (c *conn) messages(data []byte, first uint32, each func(r reply) (done bool, err error)) (bool, error) {
	for len(data) >= sizeNetlink {
		length := int(binary.NativeEndian.Uint32(data))
		if length < sizeNetlink || length > len(data) {
			return false, fmt.Errorf("%w: message of %d bytes", errMalformed, length)
		}
		r := reply{
			kind:    binary.NativeEndian.Uint16(data[4:]),
			flags:   binary.NativeEndian.Uint16(data[6:]),
			seq:     binary.NativeEndian.Uint32(data[8:]),
			payload: data[sizeNetlink:length],
		}
		data = data[min((length+3)&^3, len(data)):]
		if int32(r.seq-first) < 0 {
			continue
		}
		if done, err := each(r); done || err != nil {
			return done, err
		}
	}
	return false, nil
}
