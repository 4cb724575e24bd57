package nstest

import (
	"bytes"
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/netns"
)

// startCapture hands every frame of a link to add, until stop is called.
func startCapture(ns *netns.NS, link string, add func(frame []byte, outgoing bool, vlan uint16)) (stop func(), err error) {
	var fd int
	err = ns.Do(func() (err error) {
		fd, err = packetSocket(link)
		return err
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "packet socket")
	raw, err := file.SyscallConn()
	if err != nil {
		_ = file.Close()
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf, oob := make([]byte, 64<<10), make([]byte, 128)
		for {
			var n, oobn int
			var from unix.Sockaddr
			var recvErr error
			err := raw.Read(func(fd uintptr) bool {
				n, oobn, _, from, recvErr = unix.Recvmsg(int(fd), buf, oob, 0)
				return recvErr != unix.EAGAIN
			})
			if err != nil {
				return // closed
			}
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && recvErr == nil {
				add(bytes.Clone(buf[:n]), ll.Pkttype == unix.PACKET_OUTGOING, vlanOf(oob[:oobn]))
			}
		}
	}()
	return func() { _ = file.Close(); <-done }, nil
}

// packetSocket opens a packet socket (packet(7)) in the namespace of the calling thread.
func packetSocket(link string) (int, error) {
	all := binary.NativeEndian.Uint16(networkOrder(unix.ETH_P_ALL))
	// Protocol 0 receives nothing before it is bound to its link.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, err
	}
	address := unix.SockaddrLinklayer{Protocol: all}
	if link != "" {
		address.Ifindex, err = linkIndex(link)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_AUXDATA, 1)
	}
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 4<<20)
		if err == unix.EPERM { // a user namespace has to live with less
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<20)
		}
	}
	if err == nil {
		err = unix.Bind(fd, &address)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// vlanOf returns the VLAN that the kernel took out of a received frame: struct
// tpacket_auxdata of linux/if_packet.h.
func vlanOf(oob []byte) uint16 {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return 0
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_PACKET && m.Header.Type == unix.PACKET_AUXDATA && len(m.Data) >= 20 &&
			binary.NativeEndian.Uint32(m.Data)&unix.TP_STATUS_VLAN_VALID != 0 {
			return binary.NativeEndian.Uint16(m.Data[16:]) & 0xfff
		}
	}
	return 0
}
