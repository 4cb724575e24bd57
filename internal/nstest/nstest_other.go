//go:build !linux

package nstest

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

func runMain(m *testing.M) int { return m.Run() }
func loopbackUp() error        { return errors.ErrUnsupported }
func probe(Feature) error      { return errors.ErrUnsupported }
func leaks(testing.TB)         {}

func wantDestination(*net.UDPConn) error      { return errors.ErrUnsupported }
func destination([]byte) (netip.Addr, []byte) { return netip.Addr{}, nil }

func addVeth(string, string, int) error            { return errors.ErrUnsupported }
func addLink(string, string, func(), func()) error { return errors.ErrUnsupported }
func linkUp(string, string) error                  { return errors.ErrUnsupported }
func addAddress(string, netip.Prefix) error        { return errors.ErrUnsupported }
func addRoute(netip.Prefix, netip.Addr) error      { return errors.ErrUnsupported }
func settle(string) error                          { return errors.ErrUnsupported }
