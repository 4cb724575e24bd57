package plugin

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// A table of nftables belongs to a socket, and to nobody when that is closed. A process of the plugin is gone after milliseconds, so a
// lasting one, the holder, opens the socket and hands it on to each of them: the table stays owned, and others' flush leaves it alone.

// holderSocket is where the holder of a dataDir listens.
const holderSocket = "holder.sock"

// hold is what the holder does until it is told to end. It returns the exit code.
func hold(ctx context.Context, args []string, out io.Writer) int {
	flags := flag.NewFlagSet("podplumb-cni hold", flag.ContinueOnError)
	flags.SetOutput(out)
	dir := flags.String("data", DefaultDataDir, "dataDir of the networks")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := holdTable(ctx, record.Store{Dir: *dir}, func() { fmt.Fprintln(out, "ready") }); err != nil {
		fmt.Fprintln(out, "podplumb-cni hold:", err)
		return 1
	}
	return 0
}

// holdTable opens the socket, owns the table if there is one, and hands the socket out until ctx ends.
func holdTable(ctx context.Context, s record.Store, ready func()) (err error) {
	alone, err := s.LockNode(ctx, "holder")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, alone()) }()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	held := os.NewFile(uintptr(fd), "nftables")
	defer held.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	path := s.NodeFile(holderSocket)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a holder that was killed
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer l.Close()
	if err := os.Chmod(path, 0o600); err != nil {
		return err
	}
	unlock, err := s.LockNode(ctx, "table")
	if err != nil {
		return err
	}
	if err := errors.Join(own(ctx, held), unlock()); err != nil {
		return err
	}
	ready()
	context.AfterFunc(ctx, func() { l.Close() })
	for {
		c, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		// Who did not wait for it gets none.
		_, _, _ = c.WriteMsgUnix([]byte{1}, unix.UnixRights(fd), nil)
		_ = c.Close()
	}
}

func own(ctx context.Context, socket *os.File) (err error) {
	c, err := nat.New(nat.Config{Table: tableName, Socket: socket})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	err = c.Own(ctx)
	if errors.Is(err, errors.ErrUnsupported) { // the kernel is older than Linux 6.9
		return fmt.Errorf("%w: this kernel has no owned tables that outlive their owner", err)
	}
	return err
}

// borrow returns the holder's socket; nil when there is no holder in this namespace. The caller has the table's lock.
func borrow(s record.Store) (*os.File, error) {
	path := s.NodeFile(holderSocket)
	if _, err := os.Lstat(path); err != nil {
		return nil, nil // nobody holds the table
	}
	c, err := net.DialTimeout("unix", path, holderPatience)
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("ask the holder of the table: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(holderPatience))
	b, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(b, rights)
	if err != nil {
		return nil, fmt.Errorf("ask the holder of the table: %w", err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil || len(messages) != 1 {
		return nil, fmt.Errorf("the holder of the table answered without a socket (%w)", errors.Join(err, fs.ErrInvalid))
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return nil, fmt.Errorf("the holder of the table answered without a socket (%w)", errors.Join(err, fs.ErrInvalid))
	}
	unix.CloseOnExec(fds[0])
	file := os.NewFile(uintptr(fds[0]), filepath.Base(path))
	if !isOfHere(fds[0]) {
		return nil, file.Close()
	}
	return file, nil
}

// holderPatience bounds the wait for the holder, which has nothing else to do.
const holderPatience = 5 * time.Second

// isOfHere reports whether a socket is of this process's network namespace.
func isOfHere(socket int) bool {
	ns, err := unix.IoctlRetInt(socket, unix.SIOCGSKNS)
	if err != nil {
		return false
	}
	defer unix.Close(ns)
	here, err := netns.Current()
	if err != nil {
		return false
	}
	defer here.Close()
	var there, own unix.Stat_t
	return unix.Fstat(ns, &there) == nil && unix.Fstat(here.Fd(), &own) == nil && there.Dev == own.Dev && there.Ino == own.Ino
}
