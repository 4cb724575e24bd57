package main

import (
	"math/rand/v2"
	"time"
)

// backoff is the time to wait before the next attempt: twice as long each time, less a random part, so that the nodes of a
// cluster do not all come back at once.
type backoff struct {
	first, most time.Duration
	now         time.Duration
}

func (b *backoff) reset() { b.now = 0 }

func (b *backoff) next() time.Duration {
	b.now = min(max(b.first, 2*b.now), b.most)
	const part = 4 // up to a quarter less
	return b.now - rand.N(b.now/part)
}
