package main

import (
	"context"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/ipvs"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/service"
)

// serviceBackend is what serves the Services of a node. The function that it returns closes it; what is served stays.
func (c *cluster) serviceBackend(n *node, client *nat.Client) (service.Backend, func(), error) {
	if c.backend != "ipvs" {
		return service.NAT(client), func() {}, nil
	}
	servers, err := c.virtualServers(n)
	if err != nil {
		return nil, nil, err
	}
	backend := service.IPVS(servers, client)
	return backend, func() { backend.Close(); servers.Close() }, nil
}

// virtualServers opens the IPVS of a node, which has the cluster IPs; other addresses are left to nat, so that no node answers ARP for them.
func (c *cluster) virtualServers(n *node) (*ipvs.Client, error) {
	owns := ipvs.Owns{Prefixes: slices.Clone(c.layout.ServiceRanges)}
	for i, p := range owns.Prefixes {
		owns.Prefixes[i] = p.Masked()
	}
	return ipvs.New(ipvs.Config{NetNS: n.ns, Owns: owns})
}

// showServers prints the virtual servers of each node as ipvsadm would.
func (c *cluster) showServers(ctx context.Context) error {
	if c.backend != "ipvs" {
		return nil
	}
	for _, n := range c.nodes {
		servers, err := c.virtualServers(n)
		if err != nil {
			return err
		}
		defer servers.Close()
		info, err := servers.Info(ctx)
		if err != nil {
			return err
		}
		state, err := servers.Read(ctx)
		if err != nil {
			return err
		}
		stats, err := servers.Stats(ctx)
		if err != nil {
			return err
		}
		c.out.Line("")
		c.out.Line("virtual servers of %s", n.Name())
		for line := range strings.Lines(ipvs.Format(info, state, stats)) {
			c.out.Line("  %s", strings.TrimRight(line, " \n"))
		}
	}
	return nil
}
