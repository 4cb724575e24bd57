package nstest

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// settle waits until the kernel has seen the carrier of a link that is up: before that
// the link drops what it is given, and a TCP client waits a second to send its SYN
// again.
func settle(name string) error {
	for end := deadline(wireTimeout); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		flags, err := linkFlags(name)
		if err != nil {
			return err
		}
		if flags&unix.IFF_RUNNING != 0 {
			// The kernel turns the queue on under the lock that this request takes.
			if err := linkUp(name, ""); err != nil {
				return err
			}
			return awaitLinkLocal(name)
		}
	}
	return fmt.Errorf("link %s has no carrier after %s", name, wireTimeout)
}

// awaitSolicited waits until the link listens to the multicast group by which
// neighbours ask for addr (RFC 4291, 2.7.1). The kernel joins it some time after it has
// acknowledged the address; a question before that is lost, and repeated a second
// later.
func awaitSolicited(link string, addr netip.Addr) error {
	flags, err := linkFlags(link)
	if err != nil || flags&(unix.IFF_LOOPBACK|unix.IFF_NOARP) != 0 {
		return err
	}
	last := addr.As16()
	group := fmt.Sprintf("ff0200000000000000000001ff%x", last[13:])
	for end := deadline(wireTimeout); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		groups, err := os.ReadFile("/proc/thread-self/net/igmp6")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(groups)) {
			if f := strings.Fields(line); len(f) > 2 && f[1] == link && f[2] == group {
				return nil
			}
		}
	}
	return fmt.Errorf("link %s does not listen for questions about %s after %s", link, addr, wireTimeout)
}

// awaitLinkLocal waits until a link has the link-local IPv6 address that the kernel gives it some
// time after the carrier. Where it gives none the wait ends without a fault.
func awaitLinkLocal(link string) error {
	for end := deadline(time.Second); time.Now().Before(end); time.Sleep(100 * time.Microsecond) {
		all, err := os.ReadFile("/proc/thread-self/net/if_inet6")
		if errors.Is(err, fs.ErrNotExist) {
			return nil // no IPv6
		}
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(all)) {
			if f := strings.Fields(line); len(f) == 6 && f[5] == link && strings.HasPrefix(f[0], "fe80") {
				return awaitSolicited(link, linkLocal(f[0]))
			}
		}
	}
	return nil
}

// linkLocal reads an address as /proc/net/if_inet6 has it.
func linkLocal(digits string) netip.Addr {
	var a [16]byte
	_, _ = hex.Decode(a[:], []byte(digits[:min(len(digits), 32)]))
	return netip.AddrFrom16(a)
}

func linkFlags(name string) (uint16, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr); err != nil {
		return 0, fmt.Errorf("link %s: %w", name, err)
	}
	return ifr.Uint16(), nil
}
