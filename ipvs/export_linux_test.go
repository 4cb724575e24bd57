package ipvs

import (
	"context"
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/netns"
)

// Floor is the least that the kernel's protocol takes: requests that were encoded beforehand, and answers that are not looked at.
type Floor struct {
	c     *conn
	all   []byte
	each  [][]byte
	dumps [][]byte
}

func NewFloor(b testing.TB, ns *netns.NS, s State) *Floor {
	c, err := dial(ns)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.close()) })
	require.NoError(b, c.nl.SetWriteBuffer(8<<20))
	require.NoError(b, c.nl.SetDeadline(time.Time{}))
	f := &Floor{c: c}
	for _, ch := range Diff(State{}, s).changes {
		c.enc.reset()
		c.enc.begin(cmdNewService, flagAck, 1)
		c.enc.service(ch.want)
		c.enc.end()
		f.each = append(f.each, append([]byte(nil), c.enc.b...))
		for _, d := range ch.destinations {
			if d.Op() == plan.Add {
				c.enc.reset()
				c.enc.begin(cmdNewDest, flagAck, 1)
				c.enc.serviceKey(ch.key)
				c.enc.destination(d.Want)
				c.enc.end()
				f.each = append(f.each, append([]byte(nil), c.enc.b...))
			}
		}
		c.request(cmdGetDest, flagDump, ch.key)
		f.dumps = append(f.dumps, append([]byte(nil), c.enc.b...))
	}
	for i, m := range f.each {
		f.all = append(f.all, m...)
		if i < len(f.each)-1 {
			binary.NativeEndian.PutUint16(f.all[len(f.all)-len(m)+6:], flagRequest)
		}
	}
	return f
}

func (f *Floor) send(b testing.TB, data []byte) {
	var err error
	if werr := f.c.raw.Write(func(fd uintptr) bool {
		_, err = unix.Write(int(fd), data)
		return err != unix.EAGAIN
	}); werr != nil || err != nil {
		b.Fatal(werr, err)
	}
}

// wait reads until an answer that ends an exchange.
func (f *Floor) wait(b testing.TB) {
	buf := f.c.in.buf[:slotSize]
	for {
		var n int
		var err error
		if rerr := f.c.raw.Read(func(fd uintptr) bool {
			n, err = unix.Read(int(fd), buf)
			return err != unix.EAGAIN
		}); rerr != nil || err != nil || n < 20 {
			b.Fatal(rerr, err, n)
		}
		kind := binary.NativeEndian.Uint16(buf[4:])
		if kind == unix.NLMSG_DONE {
			return
		}
		if kind == unix.NLMSG_ERROR {
			if errno := int32(binary.NativeEndian.Uint32(buf[16:])); errno != 0 {
				b.Fatal(unix.Errno(-errno))
			}
			return
		}
	}
}

// SendAll sends everything as one datagram.
func (f *Floor) SendAll(b testing.TB) {
	f.send(b, f.all)
	f.wait(b)
}

// SendSingly waits for the answer to each request.
func (f *Floor) SendSingly(b testing.TB) {
	for _, m := range f.each {
		f.send(b, m)
		f.wait(b)
	}
}

// Dump lists all services, and the destinations of each.
func (f *Floor) Dump(b testing.TB) {
	f.c.request(cmdGetService, flagDump, Key{})
	f.send(b, f.c.enc.b)
	f.wait(b)
	for _, d := range f.dumps {
		f.send(b, d)
		f.wait(b)
	}
}

func (f *Floor) SetDestination(b testing.TB, k Key, d Destination) {
	f.c.enc.reset()
	f.c.enc.begin(cmdSetDest, flagAck, 1)
	f.c.enc.serviceKey(k)
	f.c.enc.destination(&d)
	f.c.enc.end()
	f.send(b, f.c.enc.b)
	f.wait(b)
}

// WriteAllocs tells how many allocations an operation of a batch costs.
func WriteAllocs(b testing.TB, ns *netns.NS, s State) float64 {
	c, err := dial(ns)
	require.NoError(b, err)
	defer func() { require.NoError(b, c.close()) }()
	add, remove := Diff(State{}, s), Diff(s, State{})
	operations := 0
	for _, p := range []Plan{add, remove} {
		for i := range p.changes {
			operations += p.changes[i].operations()
		}
	}
	n := testing.AllocsPerRun(3, func() {
		for _, p := range []Plan{add, remove} {
			failed, err := c.write(context.Background(), p.changes)
			require.NoError(b, err)
			require.Empty(b, failed)
		}
	})
	return n / float64(operations)
}
