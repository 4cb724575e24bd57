package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// diag asks a network namespace for its sockets (linux/sock_diag.h,
// linux/inet_diag.h).
type diag struct {
	mu   sync.Mutex
	conn *netlink.Conn
}

func openDiag(ns *netns.NS) (*diag, error) {
	d := &diag{}
	open := func() error {
		var err error
		d.conn, err = netlink.Dial(unix.NETLINK_INET_DIAG, nil)
		return err
	}
	if ns != nil {
		return d, ns.Do(open)
	}
	return d, open()
}

const (
	sockDiagByFamily = 20
	tcpListen        = 10 // TCP_LISTEN of linux/tcp_states.h
	requestLen       = 56 // struct inet_diag_req_v2
	messageLen       = 72 // struct inet_diag_msg
	sourcePort       = 4  // in it
	sourceAddr       = 8
	inodeOf          = 68
	v6Only           = 11 // INET_DIAG_SKV6ONLY
)

// listened are TCP ports that others can connect to, each list sorted.
type listened struct {
	both, four, six []uint16 // by both families of addresses, by one alone
}

func (l *listened) equal(o *listened) bool {
	return slices.Equal(l.both, o.both) && slices.Equal(l.four, o.four) && slices.Equal(l.six, o.six)
}

// listening returns the ports, without the proxy's own.
func (d *diag) listening() (listened, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	found := [2]map[uint16]bool{{}, {}}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		if err := d.ask(family, found); err != nil {
			return listened{}, fmt.Errorf("list sockets: %w", err)
		}
	}
	var l listened
	for p := range found[0] {
		if found[1][p] {
			l.both = append(l.both, p)
		} else {
			l.four = append(l.four, p)
		}
	}
	for p := range found[1] {
		if !found[0][p] {
			l.six = append(l.six, p)
		}
	}
	for _, list := range []*[]uint16{&l.both, &l.four, &l.six} {
		*list = slices.DeleteFunc(*list, func(p uint16) bool { return p == OutboundPort || p == InboundPort || p == DNSPort })
		slices.Sort(*list)
	}
	return l, nil
}

// tries is how often a list is asked for that changed while it was made.
const tries = 5

// ask notes the ports of a family's sockets, by the families of addresses that
// reach them.
func (d *diag) ask(family byte, found [2]map[uint16]bool) error {
	request := make([]byte, requestLen)
	request[0], request[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(request[4:], 1<<tcpListen)
	for try := 1; ; try++ {
		if err := d.conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		answers, err := d.conn.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: request,
		})
		if errors.Is(err, unix.EINTR) && try < tries {
			continue
		}
		if err != nil {
			return err
		}
		for _, m := range answers {
			if len(m.Data) < messageLen {
				return fmt.Errorf("an answer of %d bytes is too short", len(m.Data))
			}
			addr := netip.AddrFrom4([4]byte(m.Data[sourceAddr:]))
			if family == unix.AF_INET6 {
				addr = netip.AddrFrom16([16]byte(m.Data[sourceAddr:])).Unmap()
			}
			if addr.IsLoopback() {
				continue
			}
			port := binary.BigEndian.Uint16(m.Data[sourcePort:])
			if addr.Is4() || addr.IsUnspecified() && !only6(m.Data[messageLen:]) {
				found[0][port] = true
			}
			if !addr.Is4() {
				found[1][port] = true
			}
		}
		return nil
	}
}

// only6 looks for IPV6_V6ONLY among the attributes of a socket.
func only6(attributes []byte) bool {
	list, err := netlink.UnmarshalAttributes(attributes)
	return err == nil && slices.ContainsFunc(list, func(a netlink.Attribute) bool { return a.Type == v6Only && len(a.Data) > 0 && a.Data[0] != 0 })
}

func (d *diag) close() error { return d.conn.Close() }

// Held says whether a process still has the socket of a TCP connection in a
// network namespace, nil being the caller's: a client that has ended its side
// then reads what comes; one that has closed it never will.
func Held(ns *netns.NS, local, remote netip.AddrPort) bool {
	d, err := openDiag(ns)
	if err != nil {
		return false
	}
	defer d.close()
	family := byte(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	request := make([]byte, requestLen)
	request[0], request[1] = family, unix.IPPROTO_TCP
	id := request[8:] // struct inet_diag_sockid
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	for i := 40; i < 48; i++ {
		id[i] = 0xff // whatever its cookie
	}
	if err := d.conn.SetDeadline(time.Now().Add(time.Second)); err != nil {
		return false
	}
	answers, err := d.conn.Execute(netlink.Message{Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request}, Data: request})
	return err == nil && len(answers) == 1 && len(answers[0].Data) >= messageLen && binary.NativeEndian.Uint32(answers[0].Data[inodeOf:]) != 0
}
