package ipvs

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// Arrange is for services.
func Arrange(s []Service, hint []int32) []int32 {
	return arrange(s, hint, func(s *Service) Key { return s.Key }, Key.Compare)
}

// Floor is the least that the kernel's protocol takes: requests whose answers are not looked at.
type Floor struct {
	c     *conn
	dumps [][]byte // requests for the destinations of each service
}

func NewFloor(b testing.TB, ns *netns.NS, s State) *Floor {
	c, err := dial(ns)
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, c.close()) })
	f := &Floor{c: c}
	for i := range s.Services {
		c.request(cmdGetDest, flagDump, s.Services[i].Key)
		f.dumps = append(f.dumps, append([]byte(nil), c.enc.b...))
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
