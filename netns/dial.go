package netns

import (
	"context"
	"net"
)

// Listen listens inside the namespace; the listener may be used from any
// goroutine, by an [net/http.Server] for example.
func (ns *NS) Listen(ctx context.Context, network, address string) (l net.Listener, err error) {
	err = ns.do("listen", func() error {
		l, err = new(net.ListenConfig).Listen(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, opError("listen", address, err)
	}
	return l, nil
}

// ListenPacket opens a packet socket such as UDP inside the namespace.
func (ns *NS) ListenPacket(ctx context.Context, network, address string) (c net.PacketConn, err error) {
	err = ns.do("listen", func() error {
		c, err = new(net.ListenConfig).ListenPacket(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, opError("listen", address, err)
	}
	return c, nil
}

// DialContext connects from inside the namespace.
func (ns *NS) DialContext(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = ns.do("dial", func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, opError("dial", address, err)
	}
	return c, nil
}
