package l7

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"
)

// replay is a request's body that can be read once more from its beginning, if not too much of it was read.
type replay struct {
	from io.ReadCloser
	keep int // bytes at most; 0: none

	mu   sync.Mutex // held while the client is waited for
	kept []byte     // what was read
	read int        // bytes
	err  error      // the end, or worse

	total  atomic.Int64 // read, for who does not have the lock
	passed atomic.Bool  // more was read than is kept
	ended  atomic.Bool  // there is nothing more to read
}

var errTryOver = errors.New("the try is over")

// again says whether another try would see the whole body.
func (b *replay) again() bool { return b == nil || !b.passed.Load() }

// try is the body as one try reads it. Its end does not wait for a read that is under way: what that brings is kept for
// the next.
type try struct {
	body *replay
	at   int
	over atomic.Bool
}

func (t *try) Read(p []byte) (int, error) {
	b := t.body
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case t.over.Load(), t.at < b.read && b.passed.Load():
		return 0, errTryOver
	case t.at < b.read:
		n := copy(p, b.kept[t.at:])
		t.at += n
		return n, nil
	case b.err != nil:
		return 0, b.err
	}
	n, err := b.from.Read(p)
	b.read += n
	b.total.Add(int64(n))
	t.at += n
	if n > 0 && !b.passed.Load() {
		if len(b.kept)+n <= b.keep {
			b.kept = append(b.kept, p[:n]...)
		} else {
			b.passed.Store(true)
			b.kept = nil
		}
	}
	if err != nil {
		b.err = err
		b.ended.Store(true)
	}
	return n, err
}

// Close is for transports: the body itself is its owner's.
func (t *try) Close() error {
	t.over.Store(true)
	return nil
}
