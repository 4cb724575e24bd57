package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/container"
)

// client is a pod or node that asks a Service.
type client struct {
	name string
	node string
	dial container.Dialer
	pod  *pod // nil for a node

	outside bool // neither pod nor node; node is then the one that its packets come to
}

// proveServices asks every port of every cluster IP, from pods and from nodes, until every pod behind it has answered.
func (c *cluster) proveServices(ctx context.Context) error {
	var faults []error
	for i := range c.layout.Services {
		svc := &c.layout.Services[i]
		selected := c.selected(svc)
		for _, port := range svc.Spec.Ports {
			if port.Protocol == corev1.ProtocolSCTP {
				continue // nothing listens on it
			}
			for _, ip := range svc.Spec.ClusterIPs {
				frontend := netip.AddrPortFrom(netip.MustParseAddr(ip), uint16(port.Port))
				proof := &proof{svc: svc, port: port, frontend: frontend, pods: selected, dns: svc == c.layout.DNS()}
				proof.local = svc.Spec.InternalTrafficPolicy != nil && *svc.Spec.InternalTrafficPolicy == corev1.ServiceInternalTrafficPolicyLocal
				lines, err := proof.run(ctx, c.clients(selected))
				if ctx.Err() != nil {
					return ctx.Err()
				}
				title := fmt.Sprintf("Service %s at %s/%s", serviceName(svc), frontend, port.Protocol)
				c.out.Verdict(err == nil, "%s", title)
				for _, line := range lines {
					c.out.Line("          %s", line)
				}
				if err != nil {
					c.out.Line("          but: %v", err)
					faults = append(faults, fmt.Errorf("%s: %w", title, err))
				}
			}
			if err := c.proveExposure(ctx, svc, port, selected); err != nil {
				faults = append(faults, err)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return errors.Join(faults...)
}

// clients picks who asks: a pod that the Service does not lead to, one that it does lead to, and nodes.
func (c *cluster) clients(selected []*pod) []client {
	var list []client
	add := func(want bool) {
		for _, p := range c.pods {
			if slices.Contains(selected, p) == want {
				list = append(list, client{name: p.Name(), node: p.Node, dial: p.ns.DialContext, pod: p})
				return
			}
		}
	}
	add(false)
	add(true)
	const nodes = 2
	for _, n := range c.nodes[:min(nodes, len(c.nodes))] {
		list = append(list, client{name: n.Name(), node: n.Name(), dial: n.ns.DialContext})
	}
	return list
}

// proof is the examination of one port of a Service at one of its addresses.
type proof struct {
	svc      *corev1.Service
	port     corev1.ServicePort
	frontend netip.AddrPort
	pods     []*pod
	local    bool // only pods on the client's node may answer
	dns      bool // they are DNS servers
}

// run returns a line for every client.
func (p *proof) run(ctx context.Context, clients []client) (lines []string, err error) {
	for _, client := range clients {
		line, err := p.ask(ctx, client)
		if err != nil {
			return lines, fmt.Errorf("from %s: %w", client.name, err)
		}
		lines = append(lines, fmt.Sprintf("from %-*s  %s", longest(clients), client.name, line))
	}
	return lines, nil
}

// ask finds out what a client meets, and puts it into a line.
func (p *proof) ask(ctx context.Context, client client) (string, error) {
	endpoints := p.endpoints(client)
	foreign := slices.ContainsFunc(p.pods, func(pod *pod) bool {
		return pod.foreign[fmt.Sprintf("%s/%d", p.port.Protocol, targetPort(pod, p.port))]
	})
	switch {
	case len(endpoints) == 0:
		return p.refused(ctx, client)
	case foreign && !p.dns:
		return p.connects(ctx, client)
	}
	return p.spread(ctx, client, endpoints)
}

func longest(clients []client) int {
	width := 0
	for _, client := range clients {
		width = max(width, len(client.name))
	}
	return width
}

// endpoints returns where a client's connections may end, and which pod is there.
func (p *proof) endpoints(client client) map[netip.AddrPort]string {
	ends := map[netip.AddrPort]string{}
	for _, pod := range p.pods {
		if port := targetPort(pod, p.port); port != 0 && (!p.local || pod.Node == client.node) {
			ends[netip.AddrPortFrom(pod.Addrs[family(p.frontend.Addr())], uint16(port))] = pod.Name()
		}
	}
	return ends
}

// spread asks until every endpoint has answered, and at least so often that an even spread shows.
func (p *proof) spread(ctx context.Context, client client, endpoints map[netip.AddrPort]string) (string, error) {
	const (
		most    = 60 // rounds before an endpoint without a request counts as left out
		workers = 4
		crowd   = 10 // endpoints from which on shares are no longer printed one by one
	)
	rounds := 20 // a request for every endpoint in each
	if len(endpoints) > crowd || p.dns {
		rounds = 5
	}
	ask := container.Ask
	if p.port.Protocol == corev1.ProtocolUDP {
		ask = container.AskUDP
	}
	if p.dns {
		ask = askDNS(strings.ToLower(string(p.port.Protocol)), p.svc.Namespace)
	}
	counts := map[netip.AddrPort]int{}
	requests := 0
	sticky := p.svc.Spec.SessionAffinity == corev1.ServiceAffinityClientIP
	prefers := sticky || p.svc.Spec.TrafficDistribution != nil // may leave endpoints out on purpose
	for round := 0; round < rounds || len(counts) < len(endpoints) && !prefers && round < most; round++ {
		answers := make([]container.Asked, len(endpoints))
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(workers)
		if sticky && round == 0 {
			group.SetLimit(1) // connections of one client that begin at the same instant may each be its first
		}
		for i := range answers {
			group.Go(func() (err error) {
				limited, cancel := context.WithTimeout(groupCtx, askTimeout)
				defer cancel()
				answers[i], err = ask(limited, client.dial, p.frontend)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return "", err
		}
		for _, asked := range answers {
			requests++
			end, err := p.check(client, asked, endpoints)
			if err != nil {
				return "", err
			}
			counts[end]++
		}
	}
	if sticky && len(counts) > 1 {
		return "", fmt.Errorf("%d requests came to %d pods, and a client should stay with one", requests, len(counts))
	}
	var shares []string
	fewest, largest := requests, 0
	for end, pod := range endpoints {
		fewest, largest = min(fewest, counts[end]), max(largest, counts[end])
		if counts[end] == 0 && !prefers {
			return "", fmt.Errorf("%d requests, and none came to %s at %s", requests, pod, end)
		}
		shares = append(shares, fmt.Sprintf("%s %d", pod, counts[end]))
	}
	if sticky {
		for end := range counts {
			return fmt.Sprintf("%d requests: all to %s", requests, endpoints[end]), nil
		}
	}
	if len(endpoints) > crowd {
		return fmt.Sprintf("%d requests to %d pods, %d to %d each", requests, len(endpoints), fewest, largest), nil
	}
	slices.Sort(shares)
	return fmt.Sprintf("%d requests: %s", requests, strings.Join(shares, ", ")), nil
}

// check looks at one answer: it must come from an endpoint, and name the client's own address unless that was a node's, or
// the endpoint is the client itself and would not accept packets from its own address.
func (p *proof) check(client client, asked container.Asked, endpoints map[netip.AddrPort]string) (netip.AddrPort, error) {
	end := asked.Server
	if end.Addr().IsUnspecified() { // UDP does not tell the container at which of its addresses it was reached
		for candidate, pod := range endpoints {
			if pod == asked.Pod {
				end = candidate
			}
		}
	}
	switch pod, ok := endpoints[end]; {
	case !ok:
		return end, fmt.Errorf("a request ended at %s of %s, which is not behind the Service", end, asked.Pod)
	case pod != asked.Pod:
		return end, fmt.Errorf("%s answered at %s, which belongs to %s", asked.Pod, end, pod)
	case client.outside && p.local && asked.Client.Addr() != asked.From.Addr():
		return end, fmt.Errorf("%s saw %s in place of the client's address %s, which externalTrafficPolicy Local keeps", asked.Pod, asked.Client.Addr(), asked.From.Addr())
	case client.outside && !p.local && asked.Client.Addr() == asked.From.Addr():
		return end, fmt.Errorf("%s saw the client's own address %s: its answers would not pass %s again", asked.Pod, asked.From.Addr(), client.node)
	case client.pod != nil && asked.Pod != client.name && asked.Client.Addr() != asked.From.Addr():
		return end, fmt.Errorf("%s saw %s in place of the client's address %s", asked.Pod, asked.Client.Addr(), asked.From.Addr())
	}
	return end, nil
}

// refused makes sure that a Service without pods turns clients away at once.
func (p *proof) refused(ctx context.Context, client client) (string, error) {
	conn, err := p.dial(ctx, client)
	if err == nil && p.port.Protocol == corev1.ProtocolUDP { // the refusal of a datagram shows in the answer
		defer conn.Close()
		_, _ = conn.Write([]byte("anybody?\n"))
		_, err = conn.Read(make([]byte, 1))
	}
	switch {
	case err == nil:
		return "", errors.New("there is no pod behind it, and somebody answers")
	case !errors.Is(err, syscall.ECONNREFUSED):
		return "", fmt.Errorf("there is no pod behind it, and clients are not refused: %w", err)
	}
	return "no pod behind it: refused at once", nil
}

// connects is all that can be said of a Service whose pods run commands of the user's own.
func (p *proof) connects(ctx context.Context, client client) (string, error) {
	if p.port.Protocol == corev1.ProtocolUDP {
		return "a command of the manifests listens there: not asked", nil
	}
	conn, err := p.dial(ctx, client)
	if err != nil {
		return "", err
	}
	return "a command of the manifests accepts the connection", conn.Close()
}

func (p *proof) dial(ctx context.Context, client client) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	conn, err := client.dial(ctx, strings.ToLower(string(p.port.Protocol)), p.frontend.String())
	if err != nil {
		return nil, err
	}
	deadline, _ := ctx.Deadline()
	return conn, conn.SetDeadline(deadline)
}
