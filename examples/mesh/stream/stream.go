package stream

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Direction says which end of a connection the pod is.
type Direction uint8

// The directions.
const (
	Inbound  Direction = iota // others opened it to the pod
	Outbound                  // the pod opened it
)

func (d Direction) String() string {
	switch d {
	case Inbound:
		return "inbound"
	case Outbound:
		return "outbound"
	}
	return fmt.Sprintf("direction(%d)", uint8(d))
}

// Protocol is what is spoken inside a connection.
type Protocol uint8

// The protocols. gRPC is HTTP2. Unknown is what nothing says yet: whoever
// speaks first decides.
const (
	Unknown Protocol = iota
	TCP              // bytes
	HTTP1
	HTTP2 // with prior knowledge, as inside of the mesh's TLS
)

func (p Protocol) String() string {
	switch p {
	case Unknown:
		return "unknown"
	case TCP:
		return "TCP"
	case HTTP1:
		return "HTTP/1"
	case HTTP2:
		return "HTTP/2"
	}
	return fmt.Sprintf("protocol(%d)", uint8(p))
}

// Stream is one connection that was captured.
type Stream struct {
	// Conn is in clear, whatever it was on the wire, and at its beginning. Who
	// handles the Stream closes it.
	Conn net.Conn

	Direction Direction

	// Protocol is HTTP1 or HTTP2: what was seen, or what is declared, in which
	// case a client may yet speak the other.
	Protocol Protocol

	// Source is the client. Destination is where the client meant to go: the
	// address of a Service, or of a pod or anything else; inbound it is an
	// address of the pod.
	Source, Destination netip.AddrPort

	// Peer is the verified identity of the client of an inbound Stream. It is
	// zero when the connection came in clear, and for an outbound one.
	Peer spiffeid.ID

	// Reads says, once the client has ended its side, whether it still reads
	// what comes. Nil means that it does not.
	Reads func() bool

	// Draining is closed when the proxy is to end: requests under way are
	// finished, new ones are not awaited.
	Draining <-chan struct{}
}

// Handler serves the streams of one pod. ServeStream returns when the Stream
// has ended; ctx ends it at once. Its error is for the proxy's log.
type Handler interface {
	ServeStream(ctx context.Context, s *Stream) error
}

// Dialer connects from inside one pod, under its identity.
type Dialer interface {
	Dial(ctx context.Context, to Target) (net.Conn, error)
}

// Target is what a Dialer connects to.
type Target struct {
	Address netip.AddrPort

	// Peer is the identity that the other side must prove: the connection is
	// mutual TLS to the proxy in front of Address. Zero means a connection in
	// clear: to the pod's own application, for a Stream that came in, and to
	// whatever is not in the mesh.
	Peer spiffeid.ID

	// Protocol is what will be spoken inside. The proxy of the other side is
	// told, so that it need not find out. In clear it has no effect.
	Protocol Protocol
}
