package vxlan

import (
	"errors"
	"fmt"
	"strings"

	"github.com/podplumb/podplumb/netns"
)

// DefaultAlias marks the links of a client with the zero Config.
const DefaultAlias = "podplumb:vxlan"

// DefaultProtocol marks the routes, neighbours and addresses of a client with the zero Config. It is free in the kernel's list (RTPROT_* of
// include/uapi/linux/rtnetlink.h) and in iproute2's, and not package veth's, whose routes would else be taken for leftovers.
const DefaultProtocol = 113

// Config says where a Client works and what it owns. The zero Config works.
type Config struct {
	// NetNS is the network namespace to work in; nil means that of the thread that calls New. It must stay open until Close.
	NetNS *netns.NS

	// Alias is the link alias (IFLA_IFALIAS) that marks the client's devices, at most 255 bytes; empty means DefaultAlias.
	Alias string

	// Protocol is the routing protocol number (rtm_protocol, NDA_PROTOCOL, IFA_PROTO) that marks the client's routes, neighbours and addresses;
	// 0 means DefaultProtocol. Numbers up to 4 belong to the kernel.
	Protocol uint8
}

// complete fills in the defaults and reports every fault.
func (c Config) complete() (Config, error) {
	if c.Alias == "" {
		c.Alias = DefaultAlias
	}
	if c.Protocol == 0 {
		c.Protocol = DefaultProtocol
	}
	var faults []error
	if len(c.Alias) > 255 || strings.ContainsRune(c.Alias, 0) {
		faults = append(faults, errors.New("alias: longer than 255 bytes, or with a zero byte"))
	}
	if c.Protocol <= 4 {
		faults = append(faults, fmt.Errorf("protocol: %d belongs to the kernel", c.Protocol))
	}
	return c, errors.Join(faults...)
}
