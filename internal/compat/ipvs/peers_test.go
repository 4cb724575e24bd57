//go:build linux

package ipvs_test

import (
	"fmt"
	"net"
	"testing"

	cfipvs "github.com/cloudflare/ipvs"
	"github.com/cloudflare/ipvs/netmask"
	mobyipvs "github.com/moby/ipvs"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/netns"
)

// What the peers take is made beforehand: only their own work is measured.

func moby(b *testing.B, ns *netns.NS, s ipvs.State) func() error {
	h, err := mobyipvs.New(fmt.Sprintf("/proc/self/fd/%d", ns.Fd()))
	require.NoError(b, err)
	b.Cleanup(h.Close)
	services := make([]*mobyipvs.Service, len(s.Services))
	destinations := make([][]*mobyipvs.Destination, len(s.Services))
	for i, v := range s.Services {
		services[i] = &mobyipvs.Service{Address: net.IP(v.Address.Addr().AsSlice()), Protocol: unix.IPPROTO_TCP, Port: v.Address.Port(), SchedName: string(v.Scheduler),
			Netmask: 0xffffffff, AddressFamily: unix.AF_INET}
		for _, d := range v.Destinations {
			destinations[i] = append(destinations[i], &mobyipvs.Destination{Address: net.IP(d.Address.Addr().AsSlice()), Port: d.Address.Port(), Weight: int(d.Weight),
				ConnectionFlags: mobyipvs.ConnectionFlagMasq, AddressFamily: unix.AF_INET})
		}
	}
	return func() error {
		for i, v := range services {
			if err := h.NewService(v); err != nil {
				return err
			}
			for _, d := range destinations[i] {
				if err := h.NewDestination(v, d); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func cloudflare(b *testing.B, ns *netns.NS, s ipvs.State) func() error {
	var c cfipvs.Client
	require.NoError(b, ns.Do(func() (err error) { // it opens its socket where the thread is
		c, err = cfipvs.New()
		return err
	}))
	if closer, ok := c.(interface{ Close() error }); ok {
		b.Cleanup(func() { _ = closer.Close() })
	}
	services := make([]cfipvs.Service, len(s.Services))
	destinations := make([][]cfipvs.Destination, len(s.Services))
	for i, v := range s.Services {
		services[i] = cfipvs.Service{Address: v.Address.Addr(), Netmask: netmask.MaskFrom(32, 32), Scheduler: string(v.Scheduler), Port: v.Address.Port(),
			Family: cfipvs.INET, Protocol: cfipvs.TCP}
		for _, d := range v.Destinations {
			destinations[i] = append(destinations[i], cfipvs.Destination{Address: d.Address.Addr(), FwdMethod: cfipvs.Masquerade, Weight: d.Weight, Port: d.Address.Port(),
				Family: cfipvs.INET})
		}
	}
	return func() error {
		for i, v := range services {
			if err := c.CreateService(v); err != nil {
				return err
			}
			for _, d := range destinations[i] {
				if err := c.CreateDestination(v, d); err != nil {
					return err
				}
			}
		}
		return nil
	}
}
