//go:build linux

package netns_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/nstest"
	"github.com/podplumb/podplumb/netns"
)

func init() { children["listen first"] = listenFirst }

// listenFirst opens sockets in a namespace whose loopback device is down before the process has used the network.
func listenFirst() error {
	ns, err := netns.New()
	if err != nil {
		return err
	}
	defer ns.Close()
	for _, address := range []string{":0", "[::]:0"} {
		l, err := ns.Listen(context.Background(), "tcp", address)
		if err != nil {
			return err
		}
		defer l.Close()
		p, err := ns.ListenPacket(context.Background(), "udp", address)
		if err != nil {
			return err
		}
		defer p.Close()
		if err := errors.Join(servesBoth(l.(*net.TCPListener)), servesBoth(p.(*net.UDPConn))); err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
	}
	return nil
}

func servesBoth(c syscall.Conn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var family, only int
	if err := raw.Control(func(fd uintptr) {
		family, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_DOMAIN)
		only, _ = unix.GetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY)
	}); err != nil {
		return err
	}
	if family != unix.AF_INET6 || only != 0 {
		return fmt.Errorf("%T of family %d, IPv6 only: %d", c, family, only)
	}
	return nil
}

func TestListenBeforeAnythingElse(t *testing.T) {
	nstest.Require(t, nstest.NetNS)
	out, err := child("listen first").CombinedOutput()
	require.NoError(t, err, string(out))
}
