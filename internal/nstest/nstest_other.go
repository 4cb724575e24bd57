//go:build !linux

package nstest

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/podplumb/podplumb/netns"
)

func runMain(m *testing.M) int { return m.Run() }
func probe(Feature) error      { return errors.ErrUnsupported }
func leaks(testing.TB)         {}
func release() string          { return "" }

func wantDestination(*net.UDPConn) error      { return errors.ErrUnsupported }
func destination([]byte) (netip.Addr, []byte) { return netip.Addr{}, nil }

func addVeth(string, string, int) error            { return errors.ErrUnsupported }
func addLink(string, string, func(), func()) error { return errors.ErrUnsupported }
func linkUp(string, string) error                  { return errors.ErrUnsupported }
func addAddress(string, netip.Prefix) error        { return errors.ErrUnsupported }
func addRoute(netip.Prefix, netip.Addr) error      { return errors.ErrUnsupported }
func settle(string) error                          { return errors.ErrUnsupported }

func startCapture(*netns.NS, string, func([]byte, bool, uint16)) (func(), error) {
	return nil, errors.ErrUnsupported
}
