package l7

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/podplumb/podplumb/examples/ingress/strict"
)

// readsTime is how often it is looked whether a client that has ended its side still reads.
const readsTime = 250 * time.Millisecond

// served is a connection whose end one can wait for.
type served struct {
	net.Conn
	strict *strict.Conn
	reads  func() bool // see stream.Stream
	once   sync.Once
	closed chan struct{}

	mu     sync.Mutex
	refuse error
	past   chan struct{} // closed when the deadline for reading has passed; nil: nobody waits for that
	over   bool          // it has
}

// Read remembers why a request was refused.
func (s *served) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	if err == nil {
		return n, nil
	}
	var refused *strict.Refused
	if errors.As(err, &refused) {
		s.mu.Lock()
		s.refuse = refused
		s.mu.Unlock()
	}
	// While a whole request is under way, the server reads a single byte, and gives the request up when that fails.
	if errors.Is(err, io.EOF) && len(p) == 1 && s.reads != nil {
		err = s.halfClosed()
	}
	return n, err
}

// halfClosed waits while the client reads on that has no more to say, until the server asks for its next request: for that it
// sets a deadline which has passed.
func (s *served) halfClosed() error {
	look := time.NewTicker(readsTime)
	defer look.Stop()
	for s.reads() {
		select {
		case <-s.closed:
			return net.ErrClosed
		case <-s.passed():
			return os.ErrDeadlineExceeded
		case <-look.C:
		}
	}
	return io.EOF
}

func (s *served) passed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.past == nil {
		s.past = make(chan struct{})
		if s.over {
			close(s.past)
		}
	}
	return s.past
}

// SetReadDeadline implements net.Conn.
func (s *served) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	was := s.over
	if s.over = !t.IsZero() && !t.After(time.Now()); s.past != nil && s.over != was {
		if s.over {
			close(s.past)
		} else {
			s.past = nil
		}
	}
	s.mu.Unlock()
	return s.Conn.SetReadDeadline(t)
}

func (s *served) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refuse
}

func (s *served) Close() error {
	err := s.Conn.Close()
	s.once.Do(func() { close(s.closed) })
	return err
}

// CloseWrite closes the writing side, if the connection has one of its own.
func (s *served) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
