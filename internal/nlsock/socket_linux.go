package nlsock

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// Socket is a netlink socket that waits in the runtime's poller, so that deadlines and Close work at any time. The kernel answers
// requests before the send returns, so most sockets never wait; and the poller would wake a thread for every answer. Therefore it
// learns of the socket, by a second descriptor, only when there is first something to wait for.
//
// Close and the poller may be used at any time; whoever sends and receives takes turns.
type Socket struct {
	file   *os.File // not in the poller
	raw    syscall.RawConn
	buf    []byte
	port   uint32
	closed atomic.Bool

	mu     sync.Mutex // guards polled
	polled *os.File
}

// Open opens a socket of a netlink protocol (unix.NETLINK_ROUTE) inside ns (nil: the calling thread's namespace) that hears the
// multicast groups in the mask and receives datagrams of up to buffer bytes.
func Open(ns *netns.NS, protocol int, groups uint32, buffer int) (*Socket, error) {
	var s *Socket
	open := func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, protocol)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			_ = unix.Close(fd)
			return os.NewSyscallError("bind", err)
		}
		s = &Socket{file: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, buffer)}
		s.raw, err = s.file.SyscallConn()
		if err == nil {
			err = s.findPort()
		}
		if err != nil {
			_ = s.file.Close()
		}
		return err
	}
	var err error
	if ns == nil {
		err = open()
	} else {
		err = ns.Do(open)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// Adopt returns a Socket of another's socket: a duplicate of the descriptor, so with the same address. What waits to be read is thrown
// away.
func Adopt(file *os.File, buffer int) (*Socket, error) {
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, err
	}
	fd := -1
	if cerr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	s := &Socket{file: os.NewFile(uintptr(fd), "netlink"), buf: make([]byte, buffer)}
	s.raw, err = s.file.SyscallConn()
	if err == nil {
		err = s.findPort()
	}
	if err == nil {
		err = s.Discard()
	}
	if err != nil {
		_ = s.file.Close()
		return nil, err
	}
	return s, nil
}

func (s *Socket) findPort() error {
	return s.control("getsockname", func(fd int) error {
		sa, err := unix.Getsockname(fd)
		a, ok := sa.(*unix.SockaddrNetlink)
		if err == nil && !ok {
			return unix.ENOTSOCK
		}
		if err == nil {
			s.port = a.Pid
		}
		return err
	})
}

// Port is the socket's address.
func (s *Socket) Port() uint32 { return s.port }

// Close closes the socket; calls under way fail with os.ErrClosed.
func (s *Socket) Close() error {
	s.closed.Store(true)
	err := s.file.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polled != nil {
		err = errors.Join(err, s.polled.Close())
	}
	return err
}

// control runs a system call on the descriptor.
func (s *Socket) control(name string, call func(fd int) error) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = call(int(fd)) }); cerr != nil {
		return cerr
	}
	return os.NewSyscallError(name, err)
}

// SetOption sets an option of level SOL_NETLINK.
func (s *Socket) SetOption(option, value int) error {
	return s.control("setsockopt", func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_NETLINK, option, value) })
}

// SetReadBuffer bounds what may wait to be read, in bytes; root may pass the system's limit.
func (s *Socket) SetReadBuffer(bytes int) error {
	return s.setBuffer(unix.SO_RCVBUFFORCE, unix.SO_RCVBUF, bytes)
}

// SetWriteBuffer bounds what may be sent at once, in bytes; root may pass the system's limit.
func (s *Socket) SetWriteBuffer(bytes int) error {
	return s.setBuffer(unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, bytes)
}

func (s *Socket) setBuffer(force, polite, bytes int) error {
	return s.control("setsockopt", func(fd int) error {
		err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, force, bytes)
		if err != nil {
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, polite, bytes)
		}
		return err
	})
}

// WriteBuffer is how much may be sent at once, in bytes, as the kernel counts them.
func (s *Socket) WriteBuffer() (bytes int, err error) {
	err = s.control("getsockopt", func(fd int) (err error) {
		bytes, err = unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
		return err
	})
	return bytes, err
}

// Send sends one datagram, of several parts if need be, to the kernel, which has dealt with all requests in it when Send returns.
func (s *Socket) Send(w *Wait, parts ...[]byte) error {
	var err error
	if werr := s.attempt(syscall.RawConn.Write, w, func(fd uintptr) bool {
		for err = unix.EINTR; err == unix.EINTR; {
			_, err = unix.SendmsgBuffers(int(fd), parts, nil, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}, unix.MSG_DONTWAIT)
		}
		return err != unix.EAGAIN
	}); werr != nil {
		return werr
	}
	return os.NewSyscallError("sendmsg", err)
}

// Receive reads one datagram of the kernel; it is valid until the next call. w nil means not to wait: then it fails with unix.EAGAIN
// when there is none.
func (s *Socket) Receive(w *Wait) ([]byte, error) {
	for {
		var n int
		var from unix.Sockaddr
		var err error
		if rerr := s.attempt(syscall.RawConn.Read, w, func(fd uintptr) bool {
			n, from, err = unix.Recvfrom(int(fd), s.buf, unix.MSG_TRUNC|unix.MSG_DONTWAIT)
			return err != unix.EAGAIN
		}); rerr != nil {
			return nil, rerr
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, os.NewSyscallError("recvfrom", err)
		}
		// Another process may send to our port; only the kernel is believed.
		if sa, ok := from.(*unix.SockaddrNetlink); !ok || sa.Pid != 0 {
			continue
		}
		if n > len(s.buf) {
			// One message larger than any that the kernel builds for these requests: make room, the caller's exchange has lost it.
			s.buf = make([]byte, (n+3)&^3)
			return nil, os.NewSyscallError("recvfrom", unix.EMSGSIZE)
		}
		return s.buf[:n], nil
	}
}

// Discard empties the receive queue after an overflow. The kernel tells of an overflow once and then goes on dropping events, untold,
// until the queue was empty (NETLINK_S_CONGESTED): only what is read from it after that can be relied on.
func (s *Socket) Discard() error {
	const most = 1 << 20 // of a stream that never ends; far more than the buffer holds
	b := make([]byte, 1)
	return s.control("recvfrom", func(fd int) error {
		for range most {
			_, _, err := unix.Recvfrom(fd, b, unix.MSG_DONTWAIT)
			if err == unix.EAGAIN {
				return nil
			}
			if err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				return err
			}
		}
		return nil
	})
}
