package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/netns"
)

// atOnce bounds the work that is done side by side.
const atOnce = 4

// cluster is a layout that is being made real.
type cluster struct {
	layout layout.Cluster
	run    *run.Run
	out    *report.Printer
	detach bool // containers outlive this process

	backend string // of the Services: nat or ipvs

	wire    *netns.NS // the network between the nodes, and its router
	outside *netns.NS // a host in the world outside
	server  *container.Process
	nodes   []*node
	pods    []*pod
}

type node struct {
	layout.Node
	ns   *netns.NS
	pods []*pod
}

type pod struct {
	layout.Pod
	ns *netns.NS

	processes []*container.Process
	commands  []*command
	probe     uint16          // TCP port on which a container of ours answers
	foreign   map[string]bool // ports such as "TCP/80" that a command or a DNS server serves instead
}

// build makes the cluster, one layer upon the other.
func (c *cluster) build(ctx context.Context) error {
	return c.out.Steps(ctx,
		report.Step{Title: "network namespaces", Do: c.makeNamespaces},
		report.Step{Title: "underlay: eth0 of the nodes", Do: c.layUnderlay},
		report.Step{Title: "bridge on each node, eth0 of the pods", Do: c.attachPods},
		report.Step{Title: "overlay: VXLAN between the nodes", Do: c.joinNodes},
		report.Step{Title: "masquerading and Services on each node", Do: c.serve},
		report.Step{Title: "cluster DNS", Do: c.startNames},
		report.Step{Title: "containers", Do: c.startContainers},
	)
}

func (c *cluster) makeNamespaces(context.Context) (string, error) {
	var err error
	if c.wire, err = c.run.NetNS("wire"); err != nil {
		return "", err
	}
	if c.outside, err = c.run.NetNS("outside"); err != nil {
		return "", err
	}
	if err := beRouter(c.wire); err != nil {
		return "", err
	}
	byName := map[string]*node{}
	for _, planned := range c.layout.Nodes {
		n := &node{Node: planned}
		c.nodes = append(c.nodes, n)
		byName[n.Name()] = n
	}
	for _, planned := range c.layout.Pods {
		p := &pod{Pod: planned, foreign: map[string]bool{}}
		c.pods = append(c.pods, p)
		byName[p.Node].pods = append(byName[p.Node].pods, p)
	}
	for _, n := range c.nodes {
		if n.ns, err = c.run.NetNS("node." + n.Name()); err != nil {
			return "", err
		}
		if err := beRouter(n.ns); err != nil {
			return "", err
		}
	}
	for _, p := range c.pods {
		if p.ns, err = c.run.NetNS("pod." + p.Object.Namespace + "." + p.Object.Name); err != nil {
			return "", err
		}
		if text := c.layout.ResolvConf(&p.Object); text != "" {
			if err := c.run.Etc(p.ns, "resolv.conf", []byte(text)); err != nil {
				return "", err
			}
		}
	}
	return fmt.Sprintf("%d, named %s*", 2+len(c.nodes)+len(c.pods), c.run.Prefix()), nil
}

// beRouter makes a namespace forward packets. Packets of one connection may come over the overlay and go over the wire, which
// strict reverse path filtering would not let pass; and pods are to send through the gateway even when the way is short, so
// it does not tell them about shorter ones.
func beRouter(ns *netns.NS) error {
	for key, value := range map[string]string{
		"net.ipv4.ip_forward":                  "1",
		"net.ipv6.conf.all.forwarding":         "1",
		"net.ipv4.conf.all.rp_filter":          "0",
		"net.ipv4.conf.default.rp_filter":      "0",
		"net.ipv4.conf.all.send_redirects":     "0",
		"net.ipv4.conf.default.send_redirects": "0",
	} {
		if err := ns.SetSysctl(key, value); err != nil {
			return err
		}
	}
	return nil
}

// eachNode works on several nodes side by side.
func (c *cluster) eachNode(ctx context.Context, do func(context.Context, *node) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, n := range c.nodes {
		group.Go(func() error {
			if err := do(ctx, n); err != nil {
				return fmt.Errorf("%s: %w", n.Name(), err)
			}
			return nil
		})
	}
	return group.Wait()
}

// close ends the processes that do not outlive this one, and closes handles. Nothing that is kept is touched.
func (c *cluster) close() {
	for _, p := range c.pods {
		p.close()
	}
	for _, n := range c.nodes {
		if n.ns != nil {
			n.ns.Close()
		}
	}
	if c.server != nil {
		c.server.Release()
	}
	if c.outside != nil {
		c.outside.Close()
	}
	if c.wire != nil {
		c.wire.Close()
	}
}

// describe prints what was built, much as kubectl get would.
func (c *cluster) describe() {
	rows := [][]string{{"NODE", "ADDRESSES", "POD RANGES"}}
	for _, n := range c.nodes {
		rows = append(rows, []string{n.Name(), list(n.Addrs), list([]netip.Prefix{n.PodNets[0].Range, n.PodNets[1].Range})})
	}
	c.out.Line("")
	c.out.Table(rows...)
	rows = [][]string{{"POD", "NODE", "ADDRESSES", "CONTAINERS"}}
	for _, p := range c.pods {
		rows = append(rows, []string{p.Name(), p.Node, list(p.Addrs), containerList(p)})
	}
	c.out.Line("")
	c.out.Table(rows...)
	rows = [][]string{{"SERVICE", "TYPE", "CLUSTER IPS", "EXTERNAL", "PORTS", "PODS"}}
	for i := range c.layout.Services {
		svc := &c.layout.Services[i]
		var ports, pods []string
		for _, port := range svc.Spec.Ports {
			text := fmt.Sprint(port.Port)
			if port.NodePort != 0 {
				text += fmt.Sprintf(":%d", port.NodePort)
			}
			text += fmt.Sprintf("/%s -> %s", port.Protocol, port.TargetPort.String())
			ports = append(ports, text)
		}
		for _, p := range c.selected(svc) {
			pods = append(pods, p.Name())
		}
		external := list(externalAddrs(svc))
		if external == "" {
			external = "-"
		}
		rows = append(rows, []string{serviceName(svc), string(svc.Spec.Type), strings.Join(svc.Spec.ClusterIPs, " "), external, strings.Join(ports, ", "), strings.Join(pods, " ")})
	}
	if len(rows) > 1 {
		c.out.Line("")
		c.out.Table(rows...)
	}
}

// guide tells how to look around in a cluster that is kept, and how to remove it.
func (c *cluster) guide(o options) {
	c.out.Line("")
	c.out.Line("The cluster stays. To look around, as root:")
	if len(c.pods) > 0 {
		c.out.Line("  enter a pod       ip netns exec %s sh", c.pods[0].ns.Name())
	}
	c.out.Line("  enter a node      ip netns exec %s sh", c.nodes[0].ns.Name())
	c.out.Line("  list them         ip netns list | grep %s", c.run.Prefix())
	c.out.Line("  output of pods    ls %s", c.run.Path())
	c.out.Line("  remove it all     go run ./examples/cluster -down%s", nameFlag(o))
}

func list[T interface{ String() string }](items []T) string {
	texts := make([]string, len(items))
	for i, item := range items {
		texts[i] = item.String()
	}
	return strings.Join(texts, " ")
}
