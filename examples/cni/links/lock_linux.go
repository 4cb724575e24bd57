package links

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// brportLocked is IFLA_BRPORT_LOCKED (linux/if_link.h, Linux 5.18).
const brportLocked = 39

// Lock is a bridge port that takes in frames from one MAC address only: the bridge learns none there and drops what comes from others.
// The zero Lock is no lock.
type Lock struct {
	MAC   string `json:",omitempty"`
	VLANs []int  `json:",omitempty"` // of the port; empty: the bridge has none
}

// Apply locks a port.
func (l Lock) Apply(ctx context.Context, port string) error {
	if l.MAC == "" {
		return nil
	}
	h, err := open(ctx)
	if err != nil {
		return fmt.Errorf("lock %s: %w", port, err)
	}
	defer h.Close()
	link, err := h.LinkByName(port)
	if err == nil {
		err = l.apply(h, link)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		err = fmt.Errorf("macspoofchk needs Linux 5.18: %w (%w)", errors.ErrUnsupported, err)
	}
	if err != nil {
		return fmt.Errorf("lock %s: %w", port, err)
	}
	return nil
}

func (l Lock) apply(h *netlink.Handle, link netlink.Link) error {
	hw, err := net.ParseMAC(l.MAC)
	if err != nil {
		return err
	}
	for _, vlan := range l.each() {
		// NUD_NOARP is a fixed entry of the port; a permanent one would be the bridge's own address.
		e := &netlink.Neigh{LinkIndex: link.Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_MASTER, State: netlink.NUD_NOARP, HardwareAddr: hw, Vlan: vlan}
		if err := h.NeighSet(e); err != nil {
			return fmt.Errorf("forwarding entry: %w", err)
		}
	}
	if err := h.LinkSetLearning(link, false); err != nil {
		return fmt.Errorf("learning: %w", err)
	}
	req := nl.NewNetlinkRequest(unix.RTM_SETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_BRIDGE)
	msg.Index = int32(link.Attrs().Index)
	req.AddData(msg)
	info := nl.NewRtAttr(unix.IFLA_PROTINFO|unix.NLA_F_NESTED, nil)
	info.AddRtAttr(brportLocked, []byte{1})
	req.AddData(info)
	_, err = req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

func (l Lock) each() []int {
	if len(l.VLANs) == 0 {
		return []int{0}
	}
	return l.VLANs
}

// Check names what of the lock is missing.
func (l Lock) Check(ctx context.Context, port string) (out []error, err error) {
	if l.MAC == "" {
		return nil, nil
	}
	h, err := open(ctx)
	if err != nil {
		return nil, fmt.Errorf("check the lock of %s: %w", port, err)
	}
	defer h.Close()
	link, err := h.LinkByName(port)
	if err != nil {
		return []error{fmt.Errorf("port %s is gone", port)}, nil
	}
	locked, err := isLocked(link.Attrs().Index)
	if err != nil {
		return nil, fmt.Errorf("check the lock of %s: %w", port, err)
	}
	if !locked {
		out = append(out, fmt.Errorf("port %s is not locked to %s", port, l.MAC))
	}
	entries, err := h.NeighList(link.Attrs().Index, unix.AF_BRIDGE)
	if err != nil {
		return out, fmt.Errorf("list the forwarding entries of %s: %w", port, err)
	}
	for _, vlan := range l.each() {
		if !slices.ContainsFunc(entries, func(n netlink.Neigh) bool { return n.HardwareAddr.String() == l.MAC && n.Vlan == vlan }) {
			out = append(out, fmt.Errorf("forwarding entry %s of port %s is missing", l.MAC, port))
		}
	}
	return out, nil
}

// isLocked reads the flag, which the netlink package does not know.
func isLocked(index int) (bool, error) {
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_DUMP)
	req.AddData(nl.NewIfInfomsg(unix.AF_BRIDGE))
	messages, err := req.Execute(unix.NETLINK_ROUTE, unix.RTM_NEWLINK)
	if err != nil {
		return false, err
	}
	for _, m := range messages {
		if len(m) < unix.SizeofIfInfomsg || int(binary.NativeEndian.Uint32(m[4:])) != index {
			continue
		}
		attrs, err := nl.ParseRouteAttr(m[unix.SizeofIfInfomsg:])
		if err != nil {
			return false, err
		}
		for _, a := range attrs {
			if a.Attr.Type&^unix.NLA_F_NESTED != unix.IFLA_PROTINFO {
				continue
			}
			infos, err := nl.ParseRouteAttr(a.Value)
			if err != nil {
				return false, err
			}
			for _, i := range infos {
				if i.Attr.Type == brportLocked && len(i.Value) > 0 {
					return i.Value[0] == 1, nil
				}
			}
		}
	}
	return false, nil
}
