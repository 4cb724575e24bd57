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
	"github.com/podplumb/podplumb/examples/internal/source"
)

// cutRequest separates the flags from "route [METHOD] HOST/PATH [NAME:VALUE...]".
func cutRequest(args []string) (request, flags []string) {
	if i := slices.Index(args, "route"); i >= 0 {
		return args[i+1:], args[:i]
	}
	return nil, args
}

// explain says which rule and which endpoints a request meets.
func explain(ctx context.Context, o *options, request []string, stdout io.Writer, log *slog.Logger) error {
	r, err := parseRequest(request)
	if err != nil {
		return err
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
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return w.follow(ctx, objects) })
	group.Go(func() error { return w.publish(ctx) })
	group.Go(func() error {
		defer cancel()
		select {
		case <-ctx.Done():
		case s := <-snapshots:
			tellRoute(stdout, s, r)
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
		fmt.Fprintln(stdout, "no rule for this host and path: 404")
		return
	}
	fmt.Fprintf(stdout, "%s\n", rule.Origin)
	for _, b := range rule.To.Backends {
		fmt.Fprintf(stdout, "  Service %s/%s, port %s", b.Backend.Namespace, b.Backend.Service, b.Backend.Port)
		switch endpoints, ok := s.Endpoints.Endpoints(b.Backend); {
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
}
