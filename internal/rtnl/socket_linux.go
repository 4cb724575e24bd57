package rtnl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// socket is a netlink socket that waits in the runtime's poller, so that deadlines and Close work at any time. The kernel answers
// requests before the send returns, so most sockets never wait; and the poller would wake a thread for every answer. Therefore it
// learns of the socket, by a second descriptor, only when there is first something to wait for.
type socket struct {
	file   *os.File // not in the poller
	raw    syscall.RawConn
	buf    []byte
	closed atomic.Bool

	mu     sync.Mutex // guards polled
	polled *os.File
}

func (s *socket) close() error {
	s.closed.Store(true)
	err := s.file.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polled != nil {
		err = errors.Join(err, s.polled.Close())
	}
	return err
}

// poller returns the descriptor that can be waited for.
func (s *socket) poller() (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.polled != nil {
		return s.polled, nil
	}
	fd, err := -1, error(nil)
	if cerr := s.raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return nil, cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("fcntl", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	if s.closed.Load() { // close came between, and may have found nothing to close
		_ = unix.Close(fd)
		return nil, os.ErrClosed
	}
	s.polled = os.NewFile(uintptr(fd), "rtnetlink")
	return s.polled, nil
}

// cause turns the poller's errors into ones that errors.Is knows: os.ErrClosed, and the reason why ctx ended.
func (s *socket) cause(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return os.ErrClosed
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case ctx.Err() != nil:
		return context.Cause(ctx)
	}
	return fmt.Errorf("the kernel did not answer in time: %w", context.DeadlineExceeded)
}

// byteOrder has netlink find out the machine's byte order, which it keeps in a variable without a lock at the first use.
var byteOrder = sync.OnceFunc(func() { nl.NativeEndian() })

// openSocket opens a NETLINK_ROUTE socket inside ns (nil: the calling thread's namespace) that hears the multicast groups in the mask.
func openSocket(ns *netns.NS, groups uint32) (*socket, error) {
	byteOrder()
	var s *socket
	open := func() error {
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
			_ = unix.Close(fd)
			return os.NewSyscallError("bind", err)
		}
		s = &socket{file: os.NewFile(uintptr(fd), "rtnetlink"), buf: make([]byte, bufferSize)}
		s.raw, err = s.file.SyscallConn()
		if err != nil {
			_ = s.file.Close()
		}
		return err
	}
	if ns == nil {
		return s, open()
	}
	return s, ns.Do(open)
}

func (s *socket) setOption(option, value int) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, option, value) }); cerr != nil {
		return cerr
	}
	return err
}

// setReadBuffer makes room for events that come faster than they are read; root may pass the system's limit.
func (s *socket) setReadBuffer(bytes int) error {
	var err error
	if cerr := s.raw.Control(func(fd uintptr) {
		if err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bytes); err != nil {
			err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, bytes)
		}
	}); cerr != nil {
		return cerr
	}
	return err
}

// bound makes the socket's waits end with ctx. The returned function must be called when the exchange is over.
func (s *socket) bound(ctx context.Context) (stop func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(DefaultTimeout)
	}
	return s.until(ctx, deadline)
}

// until sets the deadline (zero: none) and lets the end of ctx cut it short.
func (s *socket) until(ctx context.Context, deadline time.Time) (stop func(), err error) {
	polled, err := s.poller()
	if err != nil {
		return nil, err
	}
	if err := polled.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if ctx.Done() == nil {
		return func() {}, nil
	}
	done := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		_ = polled.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	return func() {
		// The past deadline must not hit the next exchange, so a cancellation under way is waited for.
		if !release() {
			<-done
		}
	}, nil
}

// attempt runs try, which does not wait, until it is done. The first try is made at once; only when that has to wait is wait asked to
// set the deadline, and is the poller asked by the given method.
func (s *socket) attempt(on func(syscall.RawConn, func(uintptr) bool) error, wait func() error, try func(fd uintptr) bool) error {
	done := false
	if err := s.raw.Control(func(fd uintptr) { done = try(fd) }); err != nil || done {
		return err
	}
	if err := wait(); err != nil {
		return err
	}
	polled, err := s.poller()
	if err != nil {
		return err
	}
	raw, err := polled.SyscallConn()
	if err != nil {
		return err
	}
	return on(raw, try)
}

func (s *socket) send(b []byte, wait func() error) error {
	var err error
	if werr := s.attempt(syscall.RawConn.Write, wait, func(fd uintptr) bool {
		err = unix.Sendto(int(fd), b, unix.MSG_DONTWAIT, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return err != unix.EAGAIN
	}); werr != nil {
		return werr
	}
	return os.NewSyscallError("sendto", err)
}

// receive reads one datagram; it is valid until the next call.
func (s *socket) receive(wait func() error) ([]byte, error) {
	for {
		var n int
		var from unix.Sockaddr
		var err error
		if rerr := s.attempt(syscall.RawConn.Read, wait, func(fd uintptr) bool {
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
			s.buf = make([]byte, align(n))
			return nil, os.NewSyscallError("recvfrom", unix.EMSGSIZE)
		}
		return s.buf[:n], nil
	}
}

// discard empties the receive queue after an overflow. The kernel tells of an overflow once and then goes on dropping events, untold, until the
// queue was empty (NETLINK_S_CONGESTED): only what is read from it after that can be relied on.
func (s *socket) discard() error {
	const most = 1 << 20 // of a stream that never ends; far more than the buffer holds
	var err error
	b := make([]byte, 1)
	if cerr := s.raw.Control(func(fd uintptr) {
		for range most {
			if _, _, err = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT); err == unix.EAGAIN {
				err = nil
				return
			}
			if err != nil && err != unix.ENOBUFS && err != unix.EINTR {
				return
			}
		}
	}); cerr != nil {
		return cerr
	}
	return os.NewSyscallError("recvfrom", err)
}

func header(b []byte) unix.NlMsghdr { return *(*unix.NlMsghdr)(unsafe.Pointer(&b[0])) }
