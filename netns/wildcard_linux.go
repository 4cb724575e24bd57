package netns

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// both returns the address at which one socket serves IPv4 and IPv6, if that is what network and literal ask for.
func both(network, literal string) (string, bool) {
	host, port, err := net.SplitHostPort(literal)
	if err != nil || network != "tcp" && network != "udp" || host != "" && host != "::" {
		return "", false
	}
	return net.JoinHostPort("::", port), true
}

// listen opens a socket with open, which is net.ListenConfig's Listen or ListenPacket. It is called inside the namespace.
//
// Package net finds out once a process whether there is IPv6, by binding [::1]. When that happens in a namespace whose
// loopback device is down, it makes sockets for IPv4 only ever after; so it is not asked.
func listen[S any](ctx context.Context, network, literal string, open func(*net.ListenConfig, context.Context, string, string) (S, error)) (S, error) {
	if address, ok := both(network, literal); ok {
		s, err := open(&net.ListenConfig{Control: dualStack}, ctx, network+"6", address)
		if !errors.Is(err, unix.EAFNOSUPPORT) {
			return s, err
		}
	}
	return open(new(net.ListenConfig), ctx, network, literal)
}

func dualStack(_, _ string, c syscall.RawConn) error {
	var err error
	if control := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0)
	}); control != nil {
		return control
	}
	return err
}
