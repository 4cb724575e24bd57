package nft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Watch is a socket that hears of changes to the ruleset by others.
type Watch struct {
	nl    *netlink.Conn
	buf   []byte
	table *Table
}

// watchBuffer is what the socket may queue. A transaction that overflows it
// is noticed as such.
const watchBuffer = 4 << 20

// OpenWatch opens a socket, in the network namespace that fd refers to, that
// hears of changes to t by sockets other than self. The kernel leaves out
// self's changes, so that they cost nothing here.
func OpenWatch(fd int, t *Table, self uint32) (*Watch, error) {
	nl, err := Dial(fd)
	if err != nil {
		return nil, fmt.Errorf("opening a netfilter netlink socket: %w", err)
	}
	w := &Watch{nl: nl, buf: make([]byte, receive), table: t}
	_ = nl.SetReadBuffer(watchBuffer)
	err = leaveOut(nl, self)
	if err == nil {
		err = nl.JoinGroup(unix.NFNLGRP_NFTABLES)
	}
	if err != nil {
		nl.Close()
		return nil, fmt.Errorf("listening to nftables changes: %w", err)
	}
	return w, nil
}

// leaveOut keeps notifications about changes by the socket with a port from
// nl. They carry that port in their header, and all messages of a datagram
// are of one transaction.
func leaveOut(nl *netlink.Conn, port uint32) error {
	const portOffset = 12 // of nlmsg_pid
	// A filter loads big-endian; the header is in host byte order.
	seen := be32(AppendUint32(nil, port))
	program := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: portOffset},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: seen},
		{Code: unix.BPF_RET | unix.BPF_K, K: 0},
		{Code: unix.BPF_RET | unix.BPF_K, K: 1 << 31},
	}
	raw, err := nl.SyscallConn()
	if err != nil {
		return err
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER,
			&unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]})
	})
	return errors.Join(err, set)
}

// Close closes the socket; a Next that waits returns.
func (w *Watch) Close() error { return w.nl.Close() }

// Next waits until another socket changed the table, or until so much changed
// that nobody knows. It returns ctx's error when ctx is done.
func (w *Watch) Next(ctx context.Context) error {
	if err := w.nl.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.nl.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, err := receiveInto(w.nl, w.buf)
		switch {
		case errors.Is(err, unix.ENOBUFS):
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case err != nil:
			return err
		}
		ours := false
		messages(w.buf[:n], func(m message) { ours = ours || w.concerns(m) })
		if ours {
			return nil
		}
	}
}

// concerns says that a notification is about the table. All of nftables'
// objects carry the table's name as their first attribute.
func (w *Watch) concerns(m message) bool {
	if m.typ>>8 != subsystem || len(m.body) < 4 || m.typ&0xff == unix.NFT_MSG_NEWGEN || Family(m.body[0]) != w.table.Family {
		return false
	}
	ours := false
	attrs(m.data, func(typ uint16, data []byte) {
		if typ == unix.NFTA_TABLE_NAME && cstring(data) == w.table.Name {
			ours = true
		}
	})
	return ours
}
