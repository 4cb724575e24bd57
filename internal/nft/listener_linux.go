package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A Listener is a socket that receives what rules log to an NFLOG group.
type Listener struct {
	nl  *netlink.Conn
	buf []byte
}

// A Logged is a packet as a rule logged it.
type Logged struct {
	Prefix  string
	Payload []byte // from the IP header on
}

// From linux/netfilter/nfnetlink_log.h; x/sys/unix lacks them.
const (
	subsystemLog            = 4
	logPacket, logConfig    = 0, 1
	logCfgCmd, logCfgMode   = 1, 2
	logCmdBind              = 1
	logCopyPacket           = 2
	logPayload, logPrefixed = 9, 10
)

// Listen binds an NFLOG group in the network namespace that fd refers to. A
// group has one listener at a time.
func Listen(ctx context.Context, fd int, group uint16) (*Listener, error) {
	nl, err := Dial(fd)
	if err != nil {
		return nil, fmt.Errorf("opening a netfilter netlink socket: %w", err)
	}
	l := &Listener{nl: nl, buf: make([]byte, receive)}
	_ = nl.SetReadBuffer(watchBuffer)
	for seq, write := range []func(*wire){
		func(w *wire) { w.bytes(logCfgCmd, []byte{logCmdBind}) },
		func(w *wire) {
			w.bytes(logCfgMode, append(binary.BigEndian.AppendUint32(nil, 0xffff), logCopyPacket, 0))
		},
	} {
		if err := l.ask(ctx, uint32(seq+1), group, write); err != nil {
			nl.Close()
			if errors.Is(err, unix.EBUSY) {
				err = fmt.Errorf("the group has a listener: %w", err)
			}
			return nil, fmt.Errorf("listening to NFLOG group %d: %w", group, err)
		}
	}
	return l, nil
}

func (l *Listener) ask(ctx context.Context, seq uint32, group uint16, write func(*wire)) error {
	var w wire
	at := w.begin(subsystemLog<<8|logConfig, unix.NLM_F_ACK, unix.AF_UNSPEC, group)
	write(&w)
	w.end(at, seq)
	raw, err := l.nl.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	err = raw.Write(func(fd uintptr) bool {
		sent = unix.Sendto(int(fd), w.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		return !errors.Is(sent, unix.EAGAIN) && !errors.Is(sent, unix.EINTR)
	})
	if err = errors.Join(err, sent); err != nil {
		return err
	}
	var answer error
	for done := false; !done; {
		n, err := l.receive(ctx)
		if err != nil {
			return err
		}
		messages(l.buf[:n], func(m message) {
			if m.typ == unix.NLMSG_ERROR && m.seq == seq {
				answer, done = m.err(), true
			}
		})
	}
	return answer
}

// receive waits for a datagram as long as ctx allows.
func (l *Listener) receive(ctx context.Context) (int, error) {
	if err := l.nl.SetReadDeadline(time.Time{}); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(ctx, func() { _ = l.nl.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		n, err := receiveInto(l.nl, l.buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if cause := context.Cause(ctx); cause != nil {
				return 0, cause
			}
			continue
		}
		return n, err
	}
}

// Next waits for packets and calls each for them; the Logged is valid during
// the call. Packets that came faster than they were fetched are lost.
func (l *Listener) Next(ctx context.Context, each func(Logged)) error {
	n, err := l.receive(ctx)
	if errors.Is(err, unix.ENOBUFS) {
		return nil
	}
	if err != nil {
		return err
	}
	messages(l.buf[:n], func(m message) {
		if m.typ != subsystemLog<<8|logPacket {
			return
		}
		var got Logged
		attrs(m.data, func(typ uint16, data []byte) {
			switch typ {
			case logPayload:
				got.Payload = data
			case logPrefixed:
				got.Prefix = cstring(data)
			}
		})
		each(got)
	})
	return nil
}

// Close closes the socket and frees the group.
func (l *Listener) Close() error { return l.nl.Close() }
