package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/container"
)

// entry is an address and port by which the world outside reaches a port of a Service.
type entry struct {
	what string
	addr netip.AddrPort
	node string // that the packets come to
}

func (e entry) String() string { return e.what + " " + e.addr.String() }

const balancer = "load balancer"

// entries lists those of a port, in the families that the Service has.
func (c *cluster) entries(svc *corev1.Service, port corev1.ServicePort) []entry {
	var list []entry
	for _, text := range svc.Spec.ClusterIPs {
		fam := family(netip.MustParseAddr(text))
		if port.NodePort != 0 {
			for _, n := range c.nodes {
				list = append(list, entry{"node port of " + n.Name(), netip.AddrPortFrom(n.Addrs[fam], uint16(port.NodePort)), n.Name()})
			}
		}
		for _, kind := range []struct {
			what  string
			addrs []netip.Addr
		}{{balancer, balancerAddrs(svc)}, {"external IP", addrsOf(svc.Spec.ExternalIPs)}} {
			for _, addr := range kind.addrs {
				if family(addr) == fam {
					list = append(list, entry{kind.what, netip.AddrPortFrom(addr, uint16(port.Port)), c.entrance(addr)})
				}
			}
		}
	}
	return list
}

// entrance is the node that an address is led to.
func (c *cluster) entrance(addr netip.Addr) string {
	for _, n := range c.nodes {
		if n.Addrs[family(addr)] == addr {
			return n.Name()
		}
	}
	for _, e := range c.layout.Entries {
		if e.Addr == addr {
			return e.Node
		}
	}
	return ""
}

func balancerAddrs(svc *corev1.Service) []netip.Addr {
	var texts []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if in.IP != "" && (in.IPMode == nil || *in.IPMode == corev1.LoadBalancerIPModeVIP) {
			texts = append(texts, in.IP)
		}
	}
	return addrsOf(texts)
}

func externalAddrs(svc *corev1.Service) []netip.Addr {
	return append(addrsOf(svc.Spec.ExternalIPs), balancerAddrs(svc)...)
}

func addrsOf(texts []string) []netip.Addr {
	var list []netip.Addr
	for _, text := range texts {
		list = append(list, netip.MustParseAddr(text)) // the manifests were checked
	}
	return list
}

// proveExposure asks a port of a Service from the host outside, at each of its addresses there.
func (c *cluster) proveExposure(ctx context.Context, svc *corev1.Service, port corev1.ServicePort, pods []*pod) error {
	entries := c.entries(svc, port)
	if len(entries) == 0 {
		return nil
	}
	var lines []string
	var faults []error
	width := 0
	for _, e := range entries {
		width = max(width, len(e.String()))
	}
	for _, e := range entries {
		proof := &proof{svc: svc, port: port, frontend: e.addr, pods: pods, local: svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal}
		from := client{name: "outside", node: e.node, dial: c.outside.DialContext, outside: true}
		var line string
		var err error
		switch {
		case !admitted(svc, e):
			line, err = proof.silent(ctx, from, "outside is not in loadBalancerSourceRanges")
		case proof.local && len(proof.endpoints(from)) == 0 && len(pods) > 0:
			line, err = proof.silent(ctx, from, "no pod of it on "+e.node)
		default:
			line, err = proof.ask(ctx, from)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", e, err))
			continue
		}
		lines = append(lines, fmt.Sprintf("%-*s  %s", width, e, line))
	}
	title := fmt.Sprintf("Service %s, port %d/%s, from outside", serviceName(svc), port.Port, port.Protocol)
	c.out.Verdict(len(faults) == 0, "%s", title)
	for _, line := range lines {
		c.out.Line("          %s", line)
	}
	if err := errors.Join(faults...); err != nil {
		c.out.Line("          but: %v", err)
		return fmt.Errorf("%s: %w", title, err)
	}
	return nil
}

// admitted says whether the host outside may use an address: source ranges bind those of load balancers, each family by its
// own ranges.
func admitted(svc *corev1.Service, e entry) bool {
	bound := false
	for _, text := range svc.Spec.LoadBalancerSourceRanges {
		cidr := netip.MustParsePrefix(text)
		if cidr.Contains(outsideAddrs[family(e.addr.Addr())]) {
			return true
		}
		bound = bound || cidr.Addr().Is4() == e.addr.Addr().Is4()
	}
	return !bound || e.what != balancer
}

// silent makes sure that packets get no answer.
func (p *proof) silent(ctx context.Context, client client, why string) (string, error) {
	const wait = 300 * time.Millisecond // an answer takes one
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	ask := container.Ask
	if p.port.Protocol == corev1.ProtocolUDP {
		ask = container.AskUDP
	}
	if asked, err := ask(ctx, client.dial, p.frontend); err == nil {
		return "", fmt.Errorf("%s: there should be no answer, and %s answers", why, asked.Pod)
	} else if ctx.Err() == nil {
		return "", fmt.Errorf("%s: packets should be dropped: %w", why, err)
	}
	return "dropped: " + why, nil
}
