package upstream

import (
	"sync"
	"time"
)

// slots is in how many parts the interval of a Budget is counted.
const slots = 10

// Budget bounds retries to a share of the requests of the last interval, as retryConstraint of GEP-3388 does. The zero
// Budget is that of the specification's defaults. It is one for all endpoints of a destination: when they all fail, there
// is not more to do for them but hardly more than without retries.
type Budget struct {
	mu       sync.Mutex
	config   BudgetConfig
	requests [slots]int
	retries  [slots]int
	slot     int64 // the current one, counted since the zero time
}

// BudgetConfig says how many retries there may be.
type BudgetConfig struct {
	Percent  int           // retries for 100 requests; 0: 20, negative: none but Minimum
	Interval time.Duration // over which both are counted; 0: 10 s
	Minimum  float64       // retries per second that are granted in any case; 0: 10, negative: none
}

// Configure changes what the Budget grants from now on.
func (b *Budget) Configure(c BudgetConfig) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.config = c
}

func (b *Budget) interval() time.Duration {
	if b.config.Interval <= 0 {
		return 10 * time.Second
	}
	return b.config.Interval
}

// forward drops what is too old. The lock is held.
func (b *Budget) forward(now time.Time) int {
	slot := now.UnixNano() / int64(b.interval()/slots)
	if slot-b.slot >= slots || slot < b.slot {
		b.requests, b.retries = [slots]int{}, [slots]int{}
		b.slot = slot
	}
	for b.slot < slot {
		b.slot++
		b.requests[b.slot%slots], b.retries[b.slot%slots] = 0, 0
	}
	return int(slot % slots)
}

// Request counts a request, not its retries.
func (b *Budget) Request(now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.requests[b.forward(now)]++
}

// Retry says whether there may be a retry, and counts it.
func (b *Budget) Retry(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.forward(now)
	requests, retries := 0, 0
	for i := range slots {
		requests += b.requests[i]
		retries += b.retries[i]
	}
	percent, minimum := b.config.Percent, b.config.Minimum
	if percent == 0 {
		percent = 20
	}
	if minimum == 0 {
		minimum = 10
	}
	granted := float64(requests)*float64(max(percent, 0))/100 + max(minimum, 0)*b.interval().Seconds()
	if float64(retries+1) > granted {
		return false
	}
	b.retries[at]++
	return true
}
