package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Dialer connects from inside a namespace. Its DialContext fits
// [net/http.Transport]; [NS.DialContext] is a Dialer with only NS set.
type Dialer struct {
	// NS is the namespace to dial in. It must be set.
	NS *NS

	// Dialer holds the options of package net: Timeout, Deadline, LocalAddr, FallbackDelay
	// (zero: 300 ms, negative: no racing, RFC 8305), KeepAlive, Control. Control runs inside the namespace.
	// A nil Resolver means NS.Resolver().
	Dialer net.Dialer
}

// DialContext connects from inside the namespace, as net.Dialer's does: host names are
// resolved there, the addresses of both families race each other (RFC 8305), zones
// such as fe80::1%eth0 name links of the namespace, and ctx bounds it all. The
// connection may be used from any goroutine.
func (ns *NS) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return (&Dialer{NS: ns}).DialContext(ctx, network, address)
}

// Listen listens inside the namespace, for an [net/http.Server] for example; a host name is
// resolved there. The listener may be used from any goroutine.
func (ns *NS) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	var l net.Listener
	literal, err := ns.literal(ctx, network, address)
	if err == nil {
		err = ns.do("listen", func() error {
			l, err = new(net.ListenConfig).Listen(ctx, network, literal)
			return err
		})
	}
	if err != nil {
		return nil, opError("listen", ns.object(), err)
	}
	return l, nil
}

// ListenPacket opens a packet socket, such as UDP, inside the namespace; otherwise it is as [NS.Listen].
func (ns *NS) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	var c net.PacketConn
	literal, err := ns.literal(ctx, network, address)
	if err == nil {
		err = ns.do("listen", func() error {
			c, err = new(net.ListenConfig).ListenPacket(ctx, network, literal)
			return err
		})
	}
	if err != nil {
		return nil, opError("listen", ns.object(), err)
	}
	return c, nil
}

// Resolver returns a resolver whose questions are sent from inside the namespace, to the servers
// of the caller's /etc/resolv.conf. Set its Dial to ask others. Its order of addresses is that of the
// caller's namespace; the Dialer sorts them again.
func (ns *NS) Resolver() *net.Resolver {
	// Only the resolver written in Go asks for sockets instead of making its own.
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		return (&Dialer{NS: ns}).dial(ctx, network, address)
	}}
}

// DialContext is described at [NS.DialContext].
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.NS.alive(); err != nil {
		return nil, opError("dial", d.NS.object(), err)
	}
	ctx, cancel := d.bound(ctx)
	defer cancel()
	c, err := d.dial(ctx, network, address)
	if err != nil {
		return nil, opError("dial", d.NS.object(), err)
	}
	return c, nil
}

// bound applies the Timeout and Deadline of the options to the whole.
func (d *Dialer) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := d.Dialer.Deadline
	if d.Dialer.Timeout > 0 {
		if t := time.Now().Add(d.Dialer.Timeout); deadline.IsZero() || t.Before(deadline) {
			deadline = t
		}
	}
	if deadline.IsZero() {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline)
}

func (d *Dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if !resolvable(network) {
		return d.dialOne(ctx, network, address)
	}
	targets, err := d.resolve(ctx, network, address)
	if err != nil {
		return nil, err
	}
	primaries, fallbacks := targets, []string(nil)
	if network == "tcp" && d.Dialer.FallbackDelay >= 0 {
		primaries, fallbacks = byFamily(targets)
	}
	if len(fallbacks) == 0 {
		return d.dialInTurn(ctx, network, primaries)
	}
	return d.race(ctx, network, primaries, fallbacks)
}

// resolvable reports whether addresses of network are host:port. What is left, Unix sockets
// and raw IP, is for package net to read.
func resolvable(network string) bool {
	switch network {
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
		return true
	}
	return false
}

// resolve returns the targets, ip:port, in the order in which to try them.
func (d *Dialer) resolve(ctx context.Context, network, address string) ([]string, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	resolver := d.Dialer.Resolver
	if resolver == nil {
		resolver = d.NS.Resolver()
	}
	port, err := resolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	if host == "" {
		return []string{address}, nil // the local system, as package net has it
	}
	addrs, err := d.NS.lookup(ctx, resolver, network, host)
	if err != nil {
		return nil, err
	}
	var targets []string
	for _, a := range addrs {
		if d.fits(a) {
			targets = append(targets, netip.AddrPortFrom(a, uint16(port)).String())
		}
	}
	if len(targets) == 0 {
		return nil, &net.AddrError{Err: "no address of the family of LocalAddr", Addr: host}
	}
	return targets, nil
}

// fits reports whether LocalAddr, if it is set, has the family of a.
func (d *Dialer) fits(a netip.Addr) bool {
	var local net.IP
	switch l := d.Dialer.LocalAddr.(type) {
	case *net.TCPAddr:
		local = l.IP
	case *net.UDPAddr:
		local = l.IP
	}
	return local == nil || local.IsUnspecified() || a.Unmap().Is4() == (local.To4() != nil)
}

// lookup returns the addresses of host, the best first.
func (ns *NS) lookup(ctx context.Context, resolver *net.Resolver, network, host string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		a, err = ns.numericZone(a)
		return []netip.Addr{a}, err
	}
	family := "ip"
	if last := network[len(network)-1]; last == '4' || last == '6' {
		family += string(last)
	}
	found, err := resolver.LookupNetIP(ctx, family, host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.Addr, 0, len(found))
	for _, a := range found {
		a, err := ns.numericZone(a.Unmap())
		if err != nil {
			return nil, err
		}
		addrs = append(addrs, a)
	}
	if len(addrs) > 1 {
		sources, err := ns.sources(addrs)
		if err != nil {
			return nil, err
		}
		sortDestinations(addrs, sources)
	}
	return addrs, nil
}

// numericZone replaces the name of a link in a zone by its index in the namespace: package net
// keeps one table of names for the whole process.
func (ns *NS) numericZone(a netip.Addr) (netip.Addr, error) {
	zone := a.Zone()
	if zone == "" {
		return a, nil
	}
	if _, err := strconv.Atoi(zone); err == nil {
		return a, nil
	}
	var index int
	err := ns.do("find link", func() (err error) {
		index, err = linkIndex(zone)
		return err
	})
	if err != nil {
		return a, &hint{"the zone " + zone + " is no link of the namespace", unwrapOp(err)}
	}
	return a.WithZone(strconv.Itoa(index)), nil
}

// literal returns address with its host name or zone resolved, for a listener: as package net
// does, an IPv4 address is preferred.
func (ns *NS) literal(ctx context.Context, network, address string) (string, error) {
	if err := ns.alive(); err != nil {
		return "", err
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil || host == "" || !resolvable(network) {
		return address, nil // package net reports what is wrong
	}
	addrs, err := ns.lookup(ctx, ns.Resolver(), network, host)
	if err != nil {
		return "", err
	}
	best := addrs[0]
	for _, a := range addrs {
		if a.Is4() {
			best = a
			break
		}
	}
	return net.JoinHostPort(best.String(), port), nil
}

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

// dialInTurn tries one target after the other and shares the time that ctx leaves among them. The
// error is that of the first.
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
