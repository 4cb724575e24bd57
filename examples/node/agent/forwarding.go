package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"slices"

	"github.com/podplumb/podplumb/netns"
)

// forward makes the node a router for the families that its pods have. Forwarding is never turned off again: others may count on it.
func forward(ns *netns.NS, ranges []netip.Prefix) (changes []string, err error) {
	set := func(key, value string) error {
		have, err := ns.Sysctl(key)
		if err != nil || have == value {
			return err
		}
		changes = append(changes, fmt.Sprintf("~ sysctl %s: %s -> %s", key, have, value))
		return ns.SetSysctl(key, value)
	}
	if has(ranges, netip.Addr.Is4) {
		if err := set("net/ipv4/ip_forward", "1"); err != nil {
			return changes, err
		}
	}
	if !has(ranges, netip.Addr.Is6) {
		return changes, nil
	}
	const key = "net/ipv6/conf/all/forwarding"
	if on, err := ns.Sysctl(key); err != nil || on == "1" {
		return changes, err
	}
	// A router takes no router advertisements, unless told so: the node would lose its own default route (accept_ra in the kernel's
	// ip-sysctl.rst).
	links, err := interfaces(ns)
	if err != nil {
		return changes, err
	}
	for _, link := range links {
		if link.Flags&net.FlagLoopback != 0 {
			continue
		}
		accept := "net/ipv6/conf/" + link.Name + "/accept_ra"
		if value, err := ns.Sysctl(accept); err != nil || value != "1" {
			continue
		}
		if err := set(accept, "2"); err != nil {
			return changes, err
		}
	}
	return changes, set(key, "1")
}

// loosen lets packets that came through the overlay pass where the node filters by the way back: what a pod sends to another node's own
// address goes beside the tunnel, and the answer comes through it.
func loosen(ns *netns.NS, device string) error {
	key := "net/ipv4/conf/" + device + "/rp_filter"
	have, err := ns.Sysctl(key)
	if errors.Is(err, fs.ErrNotExist) || err == nil && have == "2" {
		return nil
	}
	if err != nil {
		return err
	}
	return ns.SetSysctl(key, "2")
}

func has(ranges []netip.Prefix, family func(netip.Addr) bool) bool {
	return slices.ContainsFunc(ranges, func(p netip.Prefix) bool { return family(p.Addr()) })
}

func interfaces(ns *netns.NS) (links []net.Interface, err error) {
	err = ns.Do(func() error {
		links, err = net.Interfaces()
		return err
	})
	return links, err
}
