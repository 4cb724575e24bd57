package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"
)

// byFamily splits the targets: those of the family of the first, and the others.
func byFamily(targets []string) (primaries, fallbacks []string) {
	var first bool
	for i, t := range targets {
		ap, err := netip.ParseAddrPort(t)
		is4 := err == nil && ap.Addr().Is4()
		if i == 0 {
			first = is4
		}
		if is4 == first {
			primaries = append(primaries, t)
		} else {
			fallbacks = append(fallbacks, t)
		}
	}
	return primaries, fallbacks
}

// dialInTurn tries one target after the other and shares the time that ctx leaves among
// them. The error is that of the first.
func (d *Dialer) dialInTurn(ctx context.Context, network string, targets []string) (net.Conn, error) {
	var first error
	for i, target := range targets {
		if err := ctx.Err(); err != nil {
			if first == nil {
				first = err
			}
			break
		}
		c, err := d.dialShare(ctx, network, target, len(targets)-i)
		if err == nil {
			return c, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = errors.New("no address to dial")
	}
	return nil, first
}

// minShare is the least time that an address gets while others wait, if there is as much.
const minShare = 2 * time.Second

func (d *Dialer) dialShare(ctx context.Context, network, target string, waiting int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		share := max(left/time.Duration(waiting), min(left, minShare))
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, share)
		defer cancel()
	}
	return d.dialOne(ctx, network, target)
}

// fallbackDelay is the head start of the first family, as in package net.
const fallbackDelay = 300 * time.Millisecond

// race dials the first family, and the other one as well when the first fails or takes
// longer than the fallback delay. The first connection wins, a later one is closed.
func (d *Dialer) race(ctx context.Context, network string, primaries, fallbacks []string) (net.Conn, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type result struct {
		conn    net.Conn
		err     error
		primary bool
	}
	results := make(chan result, 2)
	start := func(targets []string, primary bool) {
		c, err := d.dialInTurn(ctx, network, targets)
		results <- result{c, err, primary}
	}
	delay := d.Dialer.FallbackDelay
	if delay == 0 {
		delay = fallbackDelay
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	go start(primaries, true)
	running, second := 1, false
	var failed error
	for {
		select {
		case <-timer.C:
			if !second {
				second, running = true, running+1
				go start(fallbacks, false)
			}
		case r := <-results:
			running--
			if r.err == nil {
				if running > 0 {
					cancel()
					go func() { // the loser may connect all the same
						if late := <-results; late.err == nil {
							_ = late.conn.Close()
						}
					}()
				}
				return r.conn, nil
			}
			if failed == nil || r.primary {
				failed = r.err
			}
			if !second {
				second, running = true, running+1
				go start(fallbacks, false)
			} else if running == 0 {
				return nil, failed
			}
		}
	}
}
