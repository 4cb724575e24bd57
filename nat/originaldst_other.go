//go:build !linux

package nat

import (
	"errors"
	"net"
	"net/netip"
)

func originalDst(net.Conn) (netip.AddrPort, error) { return netip.AddrPort{}, errors.ErrUnsupported }
