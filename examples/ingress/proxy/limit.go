package proxy

import (
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/podplumb/podplumb/examples/ingress/route"
)

// Limit sets how many requests pass to each rule that has no limit of its own: of all clients together, and of each. Call it
// before the Proxy serves.
func (p *Proxy) Limit(all, client route.Limit) { p.limits.all, p.limits.client = all, client }

// limits are the buckets of all rules. A rule keeps its buckets while it has the same limits, whatever else changes.
type limits struct {
	all, client route.Limit // of rules without their own

	mu      sync.Mutex
	buckets generations[bucketOf]
}

// bucketOf names a bucket: of a rule, and of a client if it has an address.
type bucketOf struct {
	rule   string
	client netip.Addr
	limit  route.Limit
}

// remembered bounds how many buckets there are: twice as many. A flood of addresses makes others lose count, but no memory.
const remembered = 1 << 15

// generations is a map that forgets what was not used lately.
type generations[K comparable] struct{ new, old map[K]*rate.Limiter }

func (g *generations[K]) get(k K, fresh func() *rate.Limiter) *rate.Limiter {
	if l := g.new[k]; l != nil {
		return l
	}
	l := g.old[k]
	if l == nil {
		l = fresh()
	}
	if g.new == nil || len(g.new) >= remembered {
		g.new, g.old = map[K]*rate.Limiter{}, g.new
	}
	g.new[k] = l
	return l
}

// take takes a request from each bucket, or from none: then it returns which of them refused, and when it will have one. A request that is
// refused is never seen by others, as it would be between two calls.
func (l *limits) take(buckets ...bucketOf) (refused int, wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	taken := make([]*rate.Reservation, len(buckets))
	for i, b := range buckets {
		limiter := l.buckets.get(b, func() *rate.Limiter { return rate.NewLimiter(rate.Limit(b.limit.PerSecond), b.limit.Burst) })
		taken[i] = limiter.ReserveN(now, 1)
		if wait := taken[i].DelayFrom(now); wait > 0 {
			for _, t := range taken[:i+1] {
				t.CancelAt(now)
			}
			return i, wait
		}
	}
	return 0, 0
}

// admit lets a request pass, or answers that there were too many and when to come again (RFC 6585, 4).
func (p *Proxy) admit(w http.ResponseWriter, r *http.Request, rule string, own route.Limits) bool {
	all, client := p.limits.all, p.limits.client
	if own.All != nil {
		all = *own.All
	}
	if own.Client != nil {
		client = *own.Client
	}
	if all.IsZero() && client.IsZero() {
		return true
	}
	var whose []string
	var buckets []bucketOf
	if !client.IsZero() {
		whose, buckets = append(whose, "client"), append(buckets, bucketOf{rule, clientOf(r), client})
	}
	if !all.IsZero() {
		whose, buckets = append(whose, "all"), append(buckets, bucketOf{rule: rule, limit: all})
	}
	refused, wait := p.limits.take(buckets...)
	if wait == 0 {
		return true
	}
	if p.metrics != nil {
		p.metrics.limited.WithLabelValues(rule, whose[refused]).Inc()
	}
	w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	answer(w, r, http.StatusTooManyRequests, "too many requests")
	return false
}

// clientOf is who counts as one client: an IPv4 address, or the network of an IPv6 address, as each has a /64 at least.
func clientOf(r *http.Request) netip.Addr {
	a, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.IPv6Unspecified()
	}
	address := a.Addr().Unmap().WithZone("")
	if address.Is4() {
		return address
	}
	const network = 64
	p, _ := address.Prefix(network)
	return p.Addr()
}
