package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/podplumb/podplumb/examples/ingress/proxy"
	"github.com/podplumb/podplumb/examples/ingress/route"
	"github.com/podplumb/podplumb/examples/internal/source"
)

// cutRequest separates the flags from "route [METHOD] HOST/PATH [NAME:VALUE...]" or "status".
func cutRequest(args []string) (verb string, request, flags []string) {
	for i, arg := range args {
		if arg == "route" || arg == "status" {
			return arg, args[i+1:], args[:i]
		}
	}
	return "", nil, args
}

// explain says which rule and which endpoints a request meets, or the status of what the Gateway API has.
func explain(ctx context.Context, o *options, verb string, request []string, stdout io.Writer, log *slog.Logger) error {
	var r *http.Request
	if verb == "route" {
		var err error
		if r, err = parseRequest(request); err != nil {
			return err
		}
	} else if len(request) > 0 {
		return fmt.Errorf("status: unexpected argument %q", request[0])
	}
	objects, err := source.Choose(o.directory, o.kubeconfig, o.master, "podplumb-ingress")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	snapshots := make(chan *proxy.Snapshot, 1)
	w := newWorld(o.controller, func(s *proxy.Snapshot) {
		select {
		case snapshots <- s:
		default:
		}
	}, log)
	w.gateways.config.Addresses = o.pool
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.follow(ctx, objects) })
	group.Go(func() error { return w.publish(ctx) })
	group.Go(func() error {
		defer cancel()
		select {
		case <-ctx.Done():
		case s := <-snapshots:
			if r != nil {
				tellRoute(stdout, s, r)
				return nil
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			fmt.Fprint(stdout, w.gateways.model.Describe())
		}
		return nil
	})
	return group.Wait()
}

func parseRequest(words []string) (*http.Request, error) {
	method := http.MethodGet
	if len(words) > 1 && !strings.Contains(words[0], "/") && !strings.Contains(words[0], ".") {
		method, words = strings.ToUpper(words[0]), words[1:]
	}
	if len(words) == 0 {
		return nil, errors.New("route: what is missing is [METHOD] HOST/PATH [HEADER:VALUE...]")
	}
	r, err := http.NewRequest(method, "http://"+words[0], nil)
	if err != nil {
		return nil, err
	}
	for _, header := range words[1:] {
		key, value, ok := strings.Cut(header, ":")
		if !ok {
			return nil, fmt.Errorf("route: %q is no header: HEADER:VALUE", header)
		}
		r.Header.Add(key, strings.TrimSpace(value))
	}
	return r, nil
}

func tellRoute(stdout io.Writer, s *proxy.Snapshot, r *http.Request) {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	rule := s.Routes.Find(r, host)
	if rule == nil {
		if !tellGatewayRoutes(stdout, s, r, host) {
			fmt.Fprintln(stdout, "no rule for this host and path: 404")
		}
		return
	}
	fmt.Fprintf(stdout, "%s\n", rule.Origin)
	for _, b := range rule.To.Backends {
		tellBackend(stdout, s, b.Backend, "")
	}
	tellGatewayRoutes(stdout, s, r, host)
}

func tellBackend(stdout io.Writer, s *proxy.Snapshot, b route.Backend, share string) {
	fmt.Fprintf(stdout, "  %sService %s/%s, port %s", share, b.Namespace, b.Service, b.Port)
	switch endpoints, ok := s.Endpoints.Endpoints(b); {
	case !ok:
		fmt.Fprintln(stdout, ": there is no such Service or port: 503")
	case len(endpoints) == 0:
		fmt.Fprintln(stdout, ": no endpoint is ready: 503")
	default:
		var all []string
		for _, e := range endpoints {
			all = append(all, e.Address.String())
		}
		slices.Sort(all)
		fmt.Fprintf(stdout, " (%s): %s\n", endpoints[0].Protocol, strings.Join(all, ", "))
	}
}
