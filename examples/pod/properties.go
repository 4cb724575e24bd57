package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/podplumb/podplumb/examples/internal/container"
)

const (
	nginxPort   = 80
	sidecarPort = 8080
)

func (p *pod) serve(ctx context.Context, name string, port int) (*container.Process, error) {
	config := container.Config{NetNS: p.sandbox, Run: p.run.Name, Pod: "pod-1"}
	return container.Serve(ctx, config, name, fmt.Sprintf("tcp/%d", port))
}

func (p *pod) join(ctx context.Context) (string, error) {
	var err error
	if p.nginx, err = p.serve(ctx, "nginx", nginxPort); err != nil {
		return "", err
	}
	if p.sidecar, err = p.serve(ctx, "sidecar", sidecarPort); err != nil {
		return "", err
	}
	want, err := p.sandbox.ID()
	if err != nil {
		return "", err
	}
	for _, process := range []*container.Process{p.nginx, p.sidecar} {
		link, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", process.PID()))
		if err != nil {
			return "", err
		}
		if link != want.String() {
			return "", fmt.Errorf("process %d is in %s and not in %s", process.PID(), link, want)
		}
	}
	return fmt.Sprintf("processes %d and %d are in %s", p.nginx.PID(), p.sidecar.PID(), want), nil
}

// ask asks the container on a port of the pod from the node.
func (p *pod) ask(ctx context.Context, addr netip.Addr, port uint16) (container.Asked, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	return container.Ask(ctx, p.node.DialContext, netip.AddrPortFrom(addr, port))
}

func (p *pod) oneAddress(ctx context.Context) (string, error) {
	for _, addr := range podAddrs {
		for name, port := range map[string]uint16{"nginx": nginxPort, "sidecar": sidecarPort} {
			asked, err := p.ask(ctx, addr, port)
			if err != nil {
				return "", err
			}
			if asked.Container != name {
				return "", fmt.Errorf("%s answered on port %d of %s, not %s", asked.Container, port, addr, name)
			}
			if !slices.Equal(asked.Addresses, podAddrs) {
				return "", fmt.Errorf("%s finds the addresses %v on its interfaces, not %v", name, asked.Addresses, podAddrs)
			}
		}
	}
	return fmt.Sprintf("%s:%d is nginx, %s:%d the sidecar", podAddrs[0], nginxPort, podAddrs[0], sidecarPort), nil
}

func (p *pod) onePortSpace(ctx context.Context) (string, error) {
	second, err := p.serve(ctx, "second", nginxPort)
	if err == nil {
		second.Kill()
		return "", fmt.Errorf("a second process could listen on port %d", nginxPort)
	}
	if !strings.Contains(err.Error(), syscall.EADDRINUSE.Error()) {
		return "", err
	}
	return fmt.Sprintf("a second listener on %d: %v", nginxPort, syscall.EADDRINUSE), nil
}

func (p *pod) localhost(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	sidecar := netip.AddrPortFrom(podAddrs[0], sidecarPort)
	var clients []string
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		answer, err := container.AskThrough(ctx, p.node.DialContext, sidecar, net.JoinHostPort(loopback, fmt.Sprint(nginxPort)))
		if err != nil {
			return "", err
		}
		if answer.Container != "nginx" || answer.Client.Addr().String() != loopback {
			return "", fmt.Errorf("%s answered a client at %s", answer.Container, answer.Client)
		}
		clients = append(clients, answer.Client.Addr().String())
	}
	return "nginx saw the sidecar come from " + strings.Join(clients, " and "), nil
}

func (p *pod) survive(ctx context.Context) (string, error) {
	p.nginx.Kill()
	p.sidecar.Kill()
	var found []netip.Addr
	err := p.sandbox.Do(func() (err error) {
		found, err = container.Addresses()
		return err
	})
	if err != nil {
		return "", err
	}
	if !slices.Equal(found, podAddrs) {
		return "", fmt.Errorf("the namespace has %v and no longer %v", found, podAddrs)
	}
	// An address without a listener refuses at once; one that is gone would not answer at all.
	for _, addr := range podAddrs {
		if _, err := p.ask(ctx, addr, nginxPort); !errors.Is(err, syscall.ECONNREFUSED) {
			return "", fmt.Errorf("%s is not there any more: %w", addr, err)
		}
	}
	return fmt.Sprintf("killed; %s still answers: %v", podAddrs[0], syscall.ECONNREFUSED), nil
}

func (p *pod) restart(ctx context.Context) (string, error) {
	old := p.nginx.PID()
	var err error
	if p.nginx, err = p.serve(ctx, "nginx", nginxPort); err != nil {
		return "", err
	}
	for _, addr := range podAddrs {
		asked, err := p.ask(ctx, addr, nginxPort)
		if err != nil {
			return "", err
		}
		if asked.Pod != "pod-1" || asked.Server.Addr() != addr {
			return "", fmt.Errorf("%s answered at %s", asked.Pod, asked.Server)
		}
	}
	return fmt.Sprintf("process %d in place of %d, same %s", p.nginx.PID(), old, podAddrs[0]), nil
}
