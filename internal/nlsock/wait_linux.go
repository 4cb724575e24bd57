package nlsock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Wait bounds what one exchange waits for. It costs nothing until there is something to wait for. End must be called when the exchange
// is over.
type Wait struct {
	s       *Socket
	ctx     context.Context
	timeout time.Duration
	stop    func()
}

// Wait returns a bound that ends with ctx, or after the timeout when ctx has no deadline; zero means that it never ends by itself.
func (s *Socket) Wait(ctx context.Context, timeout time.Duration) *Wait {
	return &Wait{s: s, ctx: ctx, timeout: timeout}
}

// begin sets the deadline.
func (w *Wait) begin() error {
	if w.stop != nil {
		return nil
	}
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	deadline, ok := w.ctx.Deadline()
	if !ok && w.timeout > 0 {
		deadline = time.Now().Add(w.timeout)
	}
	polled, err := w.s.poller()
	if err != nil {
		return err
	}
	if err := polled.SetDeadline(deadline); err != nil {
		return err
	}
	if w.ctx.Done() == nil {
		w.stop = func() {}
		return nil
	}
	done := make(chan struct{})
	release := context.AfterFunc(w.ctx, func() {
		_ = polled.SetDeadline(time.Unix(1, 0))
		close(done)
	})
	w.stop = func() {
		// The past deadline must not hit the next exchange, so a cancellation under way is waited for.
		if !release() {
			<-done
		}
	}
	return nil
}

// End ends the bound.
func (w *Wait) End() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// Cause turns the poller's errors into ones that errors.Is knows: os.ErrClosed, and the reason why ctx ended.
func (w *Wait) Cause(err error) error {
	switch {
	case err == nil:
		return nil
	case w.s.closed.Load():
		return os.ErrClosed
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case w.ctx.Err() != nil:
		return context.Cause(w.ctx)
	}
	return fmt.Errorf("the kernel did not answer in time: %w", context.DeadlineExceeded)
}

// attempt runs try, which does not wait, until it is done. The first try is made at once; only when that has to wait is the deadline
// set, and is the poller asked by the given method. Without w there is one try.
func (s *Socket) attempt(on func(syscall.RawConn, func(uintptr) bool) error, w *Wait, try func(fd uintptr) bool) error {
	done := false
	if err := s.raw.Control(func(fd uintptr) { done = try(fd) }); err != nil || done || w == nil {
		return err
	}
	if err := w.begin(); err != nil {
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

// poller returns the descriptor that can be waited for.
func (s *Socket) poller() (*os.File, error) {
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
	s.polled = os.NewFile(uintptr(fd), "netlink")
	return s.polled, nil
}
