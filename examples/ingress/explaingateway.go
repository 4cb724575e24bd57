package main

import (
	"cmp"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/ingress/gateway"
	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/internal/httproute"
)

// tellGatewayRoutes says what a request meets at each port of a Gateway that serves its host. It says whether there is one.
func tellGatewayRoutes(stdout io.Writer, s *proxy.Snapshot, r *http.Request, host string) bool {
	at := map[*gateway.Port][]string{}
	for address, port := range s.Ports {
		at[port] = append(at[port], address.String())
	}
	var ports []*gateway.Port
	for port := range at {
		ports = append(ports, port)
	}
	slices.SortFunc(ports, func(a, b *gateway.Port) int {
		return cmp.Or(cmp.Compare(a.Gateway, b.Gateway), cmp.Compare(a.Number, b.Number))
	})
	for _, port := range ports {
		slices.SortFunc(at[port], func(a, b string) int { return netip.MustParseAddrPort(a).Compare(netip.MustParseAddrPort(b)) })
		where := fmt.Sprintf("Gateway %s at %s", port.Gateway, strings.Join(at[port], ", "))
		l, ok := port.Listeners.Find(host)
		if !ok {
			fmt.Fprintf(stdout, "%s: no listener for this host: 404\n", where)
			continue
		}
		match := l.Routes.Find(r, host)
		if match == nil {
			fmt.Fprintf(stdout, "%s, listener %s: no rule for this host and path: 404\n", where, l.Name)
			continue
		}
		fmt.Fprintf(stdout, "%s, listener %s: %s\n", where, l.Name, match.Origin)
		tellMatch(stdout, s, r, match, port)
	}
	return len(ports) > 0
}

func tellMatch(stdout io.Writer, s *proxy.Snapshot, r *http.Request, match *httproute.Match, port *gateway.Port) {
	if d := match.Filters.Redirect; d != nil {
		scheme := "http"
		if port.TLS {
			scheme = "https"
		}
		fmt.Fprintf(stdout, "  %d to %s\n", d.Code, d.Location(r, scheme, port.Number, match.Prefix))
		return
	}
	if w := match.Filters.Rewrite; w != nil {
		_, path := w.Path.Apply(r.URL, match.Prefix)
		fmt.Fprintf(stdout, "  as %s%s\n", cmp.Or(w.Hostname, r.Host), path)
	}
	for _, m := range match.Filters.Mirrors {
		fmt.Fprintf(stdout, "  copied to Service %s, %d of %d\n", m.Target, m.Numerator, m.Denominator)
	}
	sum := 0
	for _, b := range match.Backends {
		sum += b.Weight
	}
	if sum == 0 || match.Err != nil {
		fmt.Fprintln(stdout, "  no valid backend: 500")
		return
	}
	for _, b := range match.Backends {
		share := ""
		if len(match.Backends) > 1 {
			share = fmt.Sprintf("%d of %d to ", b.Weight, sum)
		}
		if b.Err != nil {
			fmt.Fprintf(stdout, "  %s%v: 500\n", share, b.Err)
			continue
		}
		tellBackend(stdout, s, route.Backend{Namespace: b.Target.Namespace, Service: b.Target.Service, Port: fmt.Sprint(b.Target.Port)}, share)
	}
}
