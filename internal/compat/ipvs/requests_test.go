//go:build linux

package ipvs_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// The requests of linux/ip_vs.h, encoded here once more.
const (
	newService, newDest      = 1, 5
	ofService, ofDest        = 1, 2
	getFamily, familyID      = 3, 1
	control, controlName     = 0x10, 2
	version, headerSize      = 1, 16
	sendBuffer, noMoreThan   = 8 << 20, time.Minute
	masqueraded, allOfFlags  = 0, 1<<32 - 1
	wholeAddress, inetFamily = 1<<32 - 1, unix.AF_INET
)

// socket opens generic netlink and returns the number of the IPVS family.
func socket(b *testing.B, ns *netns.NS) (*netlink.Conn, netlink.HeaderType) {
	var c *netlink.Conn
	require.NoError(b, ns.Do(func() (err error) {
		c, err = netlink.Dial(unix.NETLINK_GENERIC, nil)
		return err
	}))
	b.Cleanup(func() { _ = c.Close() })
	require.NoError(b, c.SetDeadline(time.Now().Add(noMoreThan)))
	ae := netlink.NewAttributeEncoder()
	ae.String(controlName, "IPVS")
	ask := message(b, control, getFamily, ae)
	ask.Header.Flags = netlink.Request // it has an answer of its own
	replies, err := c.Execute(ask)
	require.NoError(b, err)
	ad, err := netlink.NewAttributeDecoder(replies[0].Data[4:])
	require.NoError(b, err)
	for ad.Next() {
		if ad.Type() == familyID {
			return c, netlink.HeaderType(ad.Uint16())
		}
	}
	require.Fail(b, "no number of the family", ad.Err())
	return nil, 0
}

func message(b *testing.B, family netlink.HeaderType, cmd byte, ae *netlink.AttributeEncoder) netlink.Message {
	attributes, err := ae.Encode()
	require.NoError(b, err)
	return netlink.Message{Header: netlink.Header{Type: family, Flags: netlink.Request | netlink.Acknowledge}, Data: append([]byte{cmd, version, 0, 0}, attributes...)}
}

// request is what adds the service, or, unless it is nil, a destination to it.
func request(b *testing.B, family netlink.HeaderType, v *ipvs.Service, d *ipvs.Destination) netlink.Message {
	ae := netlink.NewAttributeEncoder()
	address := func(ae *netlink.AttributeEncoder, address, port uint16, a []byte, p uint16) {
		ae.Bytes(address, append(a, make([]byte, 12)...))
		ae.Bytes(port, binary.BigEndian.AppendUint16(nil, p))
	}
	ae.Nested(ofService, func(ae *netlink.AttributeEncoder) error {
		ae.Uint16(1, inetFamily)
		ae.Uint16(2, uint16(v.Protocol))
		address(ae, 3, 4, v.Address.Addr().AsSlice(), v.Address.Port())
		if d == nil {
			ae.String(6, string(v.Scheduler))
			ae.Bytes(7, binary.NativeEndian.AppendUint32(make([]byte, 4), allOfFlags))
			ae.Uint32(8, 0)
			ae.Uint32(9, wholeAddress)
		}
		return nil
	})
	if d == nil {
		return message(b, family, newService, ae)
	}
	ae.Nested(ofDest, func(ae *netlink.AttributeEncoder) error {
		address(ae, 1, 2, d.Address.Addr().AsSlice(), d.Address.Port())
		ae.Uint32(3, masqueraded)
		ae.Uint32(4, d.Weight)
		ae.Uint32(5, d.Upper)
		ae.Uint32(6, d.Lower)
		ae.Uint16(11, inetFamily)
		return nil
	})
	return message(b, family, newDest, ae)
}

func requests(b *testing.B, family netlink.HeaderType, s ipvs.State) []netlink.Message {
	var out []netlink.Message
	for i := range s.Services {
		v := &s.Services[i]
		out = append(out, request(b, family, v, nil))
		for j := range v.Destinations {
			out = append(out, request(b, family, v, &v.Destinations[j]))
		}
	}
	return out
}

// execute sends each request by itself, encoded anew, and waits for its answer, as a client without batches does on this library.
func execute(b *testing.B, ns *netns.NS, s ipvs.State) func() error {
	c, family := socket(b, ns)
	return func() error {
		for i := range s.Services {
			v := &s.Services[i]
			if _, err := c.Execute(request(b, family, v, nil)); err != nil {
				return err
			}
			for j := range v.Destinations {
				if _, err := c.Execute(request(b, family, v, &v.Destinations[j])); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// floor sends all requests, encoded beforehand, as one datagram, and waits for the answer to the last: the kernel's own work, and little more.
func floor(b *testing.B, ns *netns.NS, s ipvs.State) func() error {
	c, family := socket(b, ns)
	require.NoError(b, c.SetWriteBuffer(sendBuffer))
	raw, err := c.SyscallConn()
	require.NoError(b, err)
	list := requests(b, family, s)
	var datagram []byte
	for i, m := range list {
		m.Header.Length, m.Header.Sequence = uint32(headerSize+len(m.Data)), uint32(i+1)
		if i < len(list)-1 {
			m.Header.Flags = netlink.Request
		}
		encoded, err := m.MarshalBinary()
		require.NoError(b, err)
		datagram = append(datagram, encoded...)
	}
	answer := make([]byte, 8<<10)
	return func() error {
		var err error
		if werr := raw.Write(func(fd uintptr) bool {
			_, err = unix.Write(int(fd), datagram)
			return err != unix.EAGAIN
		}); werr != nil || err != nil {
			return fmt.Errorf("send: %v, %w", werr, err)
		}
		var n int
		if rerr := raw.Read(func(fd uintptr) bool {
			n, err = unix.Read(int(fd), answer)
			return err != unix.EAGAIN
		}); rerr != nil || err != nil {
			return fmt.Errorf("receive: %v, %w", rerr, err)
		}
		if n < headerSize+4 || binary.NativeEndian.Uint32(answer[8:]) != uint32(len(list)) {
			return fmt.Errorf("receive: not the answer to the last request: %x", answer[:n])
		}
		if errno := int32(binary.NativeEndian.Uint32(answer[headerSize:])); errno != 0 {
			return unix.Errno(-errno)
		}
		return nil
	}
}
