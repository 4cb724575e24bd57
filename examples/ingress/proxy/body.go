package proxy

import (
	"errors"
	"io"
	"sync"
)

// window is how much of a body is kept for another try and for mirrors: a longer one is not sent again, and a mirror that
// falls back further is given up.
const window = 256 << 10

var (
	errBehind = errors.New("the mirror is too slow for the body")
	errClosed = errors.New("the body is closed")
)

// shared is a body that several read: one leads and takes it from the client, the others get what it has taken.
type shared struct {
	from io.Reader

	mu      sync.Mutex
	more    *sync.Cond
	data    []byte // the last that was taken
	dropped int64  // what was before it
	err     error  // at its end
	taking  bool
}

func newShared(from io.Reader) *shared {
	s := &shared{from: from}
	s.more = sync.NewCond(&s.mu)
	return s
}

// whole says whether the body can be read from its beginning.
func (s *shared) whole() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.dropped == 0
}

// lead returns a reader from the beginning that takes more when it comes to the end.
func (s *shared) lead() *reader { return &reader{s: s, leads: true} }

// follow returns a reader that waits for more.
func (s *shared) follow() *reader { return &reader{s: s} }

// end tells those who wait that no more is taken.
func (s *shared) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = io.ErrUnexpectedEOF
	}
	s.more.Broadcast()
}

type reader struct {
	s      *shared
	leads  bool
	at     int64
	closed bool
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	s := r.s
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		end := s.dropped + int64(len(s.data))
		switch {
		case r.closed:
			return 0, errClosed
		case r.at < s.dropped:
			return 0, errBehind
		case r.at < end:
			n := copy(p, s.data[r.at-s.dropped:])
			r.at += int64(n)
			return n, nil
		case s.err != nil:
			return 0, s.err
		case r.leads && !s.taking:
			if n := s.take(p); n > 0 {
				r.at += int64(n)
				return n, nil
			}
		default:
			s.more.Wait()
		}
	}
}

// take reads more into p and keeps it. The lock is open meanwhile: what a try that was given up still reads is there for the next.
func (s *shared) take(p []byte) int {
	s.taking = true
	s.mu.Unlock()
	n, err := s.from.Read(p)
	s.mu.Lock()
	s.taking = false
	s.data = append(s.data, p[:n]...)
	if over := len(s.data) - window; over > window {
		s.data = append([]byte(nil), s.data[over:]...)
		s.dropped += int64(over)
	}
	if s.err == nil {
		s.err = err
	}
	s.more.Broadcast()
	return n
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	r.closed = true
	r.s.more.Broadcast()
	return nil
}
