package nat

import (
	"errors"
	"net"
	"net/netip"
)

// ErrNotCaptured says that a connection came straight to where it is: nobody
// translated it, or conntrack has forgotten that somebody did.
var ErrNotCaptured = errors.New("the connection was not translated")

// OriginalDst returns where an accepted connection was to go before it was
// captured or redirected to this host. conn is a *net.TCPConn or wraps one and
// has a method NetConn, as a *tls.Conn does. It is asked best right after
// Accept, while conntrack surely knows.
//
// Addresses of IPv4 are returned as such, also for a socket of IPv6 that
// serves both. A link-local address of IPv6 has the zone of the link that the
// connection came in by, as a number, where the kernel knows it.
//
// It fails with ErrNotCaptured for a connection that was not translated, so
// that a proxy does not dial itself, and with errors.ErrUnsupported for other
// connections and where there is no Linux. (SO_ORIGINAL_DST in
// linux/netfilter_ipv4.h, IP6T_SO_ORIGINAL_DST in
// linux/netfilter_ipv6/ip6_tables.h.)
func OriginalDst(conn net.Conn) (netip.AddrPort, error) {
	to, err := originalDst(conn)
	if err != nil {
		return netip.AddrPort{}, &OpError{Op: "original destination", Object: about(conn), Err: err}
	}
	return to, nil
}

// about names a connection by its client.
func about(conn net.Conn) string {
	if conn == nil || conn.RemoteAddr() == nil {
		return ""
	}
	return "of " + conn.RemoteAddr().String()
}
