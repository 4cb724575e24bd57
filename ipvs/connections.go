package ipvs

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Connection is an entry of the kernel's connection table.
type Connection struct {
	// Protocol is zero for the persistence entry of a mark's service.
	Protocol Protocol

	// Client is where the connection comes from. A persistence entry, which stands for a client and not for a connection, has port 0.
	Client netip.AddrPort

	// Virtual is where it goes to. In the persistence entry of a mark's service the address is the mark.
	Virtual netip.AddrPort

	// Destination is where IPVS sends it.
	Destination netip.AddrPort

	// State is the kernel's name: ESTABLISHED, TIME_WAIT, UDP, NONE and so on.
	State string

	// Expires is how long the entry stays without a packet, in whole seconds.
	Expires time.Duration

	// Engine and EngineData are of a persistence engine: "sip" and the call's identifier.
	Engine, EngineData string
}

// parseConnections reads /proc/net/ip_vs_conn: a header, then lines of "TCP C0A80001 D431 0A60000A 0050 0AF40102 1F90 ESTABLISHED     899".
func parseConnections(r io.Reader) ([]Connection, error) {
	var out []Connection
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		f := strings.Fields(lines.Text())
		if len(f) == 0 || f[0] == "Pro" {
			continue
		}
		c, err := parseConnection(f)
		if err != nil {
			return nil, fmt.Errorf("line %d of the connection table: %w: %q", n, err, lines.Text())
		}
		out = append(out, c)
	}
	return out, lines.Err()
}

func parseConnection(f []string) (c Connection, err error) {
	if len(f) < 9 {
		return c, errMalformed
	}
	if err := c.Protocol.UnmarshalText([]byte(strings.ToLower(f[0]))); err != nil && f[0] != "IP" {
		return c, err
	}
	for i, to := range []*netip.AddrPort{&c.Client, &c.Virtual, &c.Destination} {
		if *to, err = parseHexAddress(f[1+2*i], f[2+2*i]); err != nil {
			return c, err
		}
	}
	c.State = f[7]
	seconds, err := strconv.ParseUint(f[8], 10, 32)
	if err != nil {
		return c, err
	}
	c.Expires = time.Duration(seconds) * time.Second
	if len(f) > 9 {
		c.Engine = f[9]
	}
	if len(f) > 10 {
		c.EngineData = strings.Join(f[10:], " ")
	}
	return c, nil
}

// parseHexAddress reads IPv4 as eight hexadecimal digits, IPv6 in full groups, and a port as four digits.
func parseHexAddress(address, port string) (netip.AddrPort, error) {
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if strings.Contains(address, ":") {
		a, err := netip.ParseAddr(address)
		if err == nil && (a.Is4() || a.Zone() != "") {
			err = errMalformed
		}
		return netip.AddrPortFrom(a, uint16(p)), err
	}
	b, err := hex.DecodeString(address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if len(b) != 4 {
		return netip.AddrPort{}, errMalformed
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), uint16(p)), nil
}
