package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A Connection is an entry of the kernel's connection tracking.
type Connection struct {
	Proto    uint8
	Src, Dst netip.AddrPort // of the first packet, as it was sent
	// Peer is who answers: Dst, unless the destination was translated.
	Peer netip.AddrPort

	family Family
	tuple  []byte // CTA_TUPLE_ORIG
	id     []byte
}

// Messages and attributes of linux/netfilter/nfnetlink_conntrack.h; x/sys/unix
// lacks them.
const (
	subsystemConntrack = 1
	ctGet, ctDelete    = 1, 2
	ctTupleOrig        = 1
	ctTupleReply       = 2
	ctID               = 12
	tupleIP            = 1
	tupleProto         = 2
	ipv4Src, ipv4Dst   = 1, 2
	ipv6Src, ipv6Dst   = 3, 4
	protoNum           = 1
	protoSrc, protoDst = 2, 3
)

// Connections calls each for every connection.
func (c *Conn) Connections(ctx context.Context, each func(*Connection)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.askOf(ctx, subsystemConntrack<<8|ctGet, unix.NLM_F_DUMP, unix.AF_UNSPEC, func(*wire) {}, func(m message) {
		if conn, ok := decodeConnection(m.data); ok {
			conn.family = FamilyIPv4
			if conn.Src.Addr().Is6() {
				conn.family = FamilyIPv6
			}
			each(&conn)
		}
	})
	// Others come and go while one reads; who was missed is new.
	if errors.Is(err, errInterrupted) {
		err = nil
	}
	return err
}

// DeleteConnection deletes a connection, if it is still the one that was
// read.
func (c *Conn) DeleteConnection(ctx context.Context, conn *Connection) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.askOf(ctx, subsystemConntrack<<8|ctDelete, 0, conn.family, func(w *wire) {
		w.bytes(ctTupleOrig|nested, conn.tuple)
		if conn.id != nil {
			w.bytes(ctID, conn.id)
		}
	}, func(message) {})
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("deleting the connection from %s to %s: %w", conn.Src, conn.Dst, err)
	}
	return nil
}

// askOf is ask for another subsystem of netfilter.
func (c *Conn) askOf(ctx context.Context, typ, flags uint16, family Family, write func(*wire), each func(message)) error {
	if err := c.usable(ctx); err != nil {
		return err
	}
	c.seq++
	var w wire
	at := w.begin(typ, flags|unix.NLM_F_ACK, family, 0)
	w.b[at+headerSize+1] = 1 // version 1 makes a deletion heed the family
	write(&w)
	w.end(at, c.seq)
	if err := c.sock.Send(nil, w.b); err != nil {
		return err
	}
	return c.collect(ctx, c.seq, each)
}

func decodeConnection(b []byte) (Connection, bool) {
	var c Connection
	var peer netip.AddrPort
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case ctTupleOrig:
			c.tuple = slices.Clone(data)
			c.Src, c.Dst, c.Proto = decodeTuple(data)
		case ctTupleReply:
			peer, _, _ = decodeTuple(data)
		case ctID:
			c.id = slices.Clone(data)
		}
	})
	c.Peer = peer
	return c, c.Src.IsValid() && c.Dst.IsValid() && peer.IsValid()
}

func decodeTuple(b []byte) (src, dst netip.AddrPort, proto uint8) {
	var from, to netip.Addr
	var fromPort, toPort uint16
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case tupleIP:
			attrs(data, func(typ uint16, data []byte) {
				switch typ {
				case ipv4Src, ipv6Src:
					from, _ = netip.AddrFromSlice(data)
				case ipv4Dst, ipv6Dst:
					to, _ = netip.AddrFromSlice(data)
				}
			})
		case tupleProto:
			attrs(data, func(typ uint16, data []byte) {
				switch {
				case typ == protoNum && len(data) > 0:
					proto = data[0]
				case typ == protoSrc && len(data) > 1:
					fromPort = binary.BigEndian.Uint16(data)
				case typ == protoDst && len(data) > 1:
					toPort = binary.BigEndian.Uint16(data)
				}
			})
		}
	})
	return netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort), proto
}
