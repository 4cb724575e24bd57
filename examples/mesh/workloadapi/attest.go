package workloadapi

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// Attestor says who a connection comes from. It is asked once, when the
// connection is made; an error refuses what is called on it.
type Attestor interface {
	Attest(conn *net.UnixConn) (spiffeid.ID, error)
}

// ErrUnknown says that the caller is no workload with an identity.
var ErrUnknown = errors.New("no identity is issued to this caller")

// Only attests whoever reaches the socket: a pod's own, which nobody else has.
func Only(id spiffeid.ID) Attestor { return only(id) }

type only spiffeid.ID

func (o only) Attest(*net.UnixConn) (spiffeid.ID, error) { return spiffeid.ID(o), nil }

// ByNetNS attests callers by the network namespace of their process: find says
// who is in it.
func ByNetNS(find func(netns.ID) (spiffeid.ID, bool)) Attestor { return byNetNS(find) }

type byNetNS func(netns.ID) (spiffeid.ID, bool)

func (find byNetNS) Attest(conn *net.UnixConn) (spiffeid.ID, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return spiffeid.ID{}, err
	}
	var peer *unix.Ucred
	var asked error
	pidfd := -1
	err = raw.Control(func(fd uintptr) {
		peer, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		if n, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			pidfd = n
		}
	})
	if pidfd >= 0 {
		defer unix.Close(pidfd)
	}
	if err := errors.Join(err, asked); err != nil {
		return spiffeid.ID{}, err
	}
	if peer.Pid <= 0 {
		return spiffeid.ID{}, fmt.Errorf("the caller's process is not visible from here: %w", ErrUnknown)
	}
	info, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", peer.Pid))
	if err != nil {
		return spiffeid.ID{}, err
	}
	// The number may be another process's by now, unless the one that
	// connected is still there (SO_PEERPIDFD, Linux 6.5).
	if pidfd >= 0 {
		poll := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		if n, err := unix.Poll(poll, 0); err != nil || n != 0 {
			return spiffeid.ID{}, fmt.Errorf("the caller has ended: %w", ErrUnknown)
		}
	}
	st := info.Sys().(*syscall.Stat_t)
	id, ok := find(netns.ID{Dev: uint64(st.Dev), Ino: st.Ino}) //nolint:unconvert // it differs between architectures
	if !ok {
		return spiffeid.ID{}, ErrUnknown
	}
	return id, nil
}
