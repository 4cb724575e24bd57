package nstest

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const brportMode = 4 // IFLA_BRPORT_MODE of linux/if_link.h

// hairpin turns hairpin mode on for a bridge port.
func hairpin(port string) error {
	index, err := linkIndex(port)
	if err != nil {
		return err
	}
	header := unix.IfInfomsg{Family: unix.AF_BRIDGE, Index: int32(index)}
	msg, err := encode(bytesOf(&header), func(ae *netlink.AttributeEncoder) {
		ae.Nested(unix.IFLA_PROTINFO, func(p *netlink.AttributeEncoder) error { p.Uint8(brportMode, 1); return nil })
	})
	if err != nil {
		return err
	}
	if _, err := request(unix.NETLINK_ROUTE, unix.RTM_SETLINK, netlink.Acknowledge, msg); err != nil {
		return fmt.Errorf("hairpin mode of %s: %w", port, err)
	}
	return nil
}
