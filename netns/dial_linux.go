package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// errAgain stops package net from making a second socket, which would be outside.
var errAgain = errors.New("the socket has to be made again")

// dialAttempts is how often package net itself tries a TCP port that connects to
// itself, plus the first try.
const dialAttempts = 3

// dialOne connects to one literal address. The thread is in the namespace only until the
// socket exists; it does not wait there for the peer.
func (d *Dialer) dialOne(ctx context.Context, network, address string) (c net.Conn, err error) {
	for range dialAttempts {
		c, err = d.attempt(ctx, network, address)
		if !errors.Is(err, errAgain) {
			return c, err
		}
	}
	return nil, fmt.Errorf("no local port is free for it: %w", unix.EADDRNOTAVAIL)
}

func (d *Dialer) attempt(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = away("dial", d.NS.object(), d.NS.enter, func(v *visit) error {
		inside := true
		inner := d.Dialer
		inner.Timeout, inner.Deadline = 0, time.Time{} // ctx has both
		inner.Resolver = &net.Resolver{PreferGo: true} // for nothing but literals
		inner.Control = nil
		inner.ControlContext = func(ctx context.Context, network, address string, raw syscall.RawConn) error {
			if !inside {
				return errAgain
			}
			if err := d.control(ctx, network, address, raw); err != nil {
				return err
			}
			inside = false
			return v.leave()
		}
		c, err = inner.DialContext(ctx, network, address)
		return err
	})
	if err != nil && c != nil {
		_ = c.Close()
		c = nil
	}
	return c, err
}

// control runs the caller's own hook, by the rule of net.Dialer that ControlContext
// comes first.
func (d *Dialer) control(ctx context.Context, network, address string, raw syscall.RawConn) error {
	switch {
	case d.Dialer.ControlContext != nil:
		return d.Dialer.ControlContext(ctx, network, address, raw)
	case d.Dialer.Control != nil:
		return d.Dialer.Control(network, address, raw)
	}
	return nil
}

// sources returns the source address that the kernel would use for each address, by
// connecting a UDP socket, which sends nothing.
func (ns *NS) sources(addrs []netip.Addr) ([]netip.Addr, error) {
	found := make([]netip.Addr, len(addrs))
	err := ns.do("dial", func() error {
		for i, a := range addrs {
			c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 9)))
			if err != nil {
				continue // no route
			}
			found[i] = c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
			_ = c.Close()
		}
		return nil
	})
	return found, err
}

// linkIndex returns the index of a link in the namespace of the calling thread.
func linkIndex(name string) (int, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, err
	}
	return int(ifr.Uint32()), nil
}
