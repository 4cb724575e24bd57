package conformance

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
)

// pod is an address with servers.
type pod struct {
	namespace, name string
	labels          map[string]string
	address         netip.Addr
	log             lines
	closers         []func() error
}

// startPod starts the servers that the image would start with this environment.
func startPod(address netip.Addr, namespace, name string, template *corev1.PodTemplateSpec) (*pod, error) {
	p := &pod{namespace: namespace, name: name, labels: template.Labels, address: address}
	env := map[string]bool{}
	echo := false
	for _, c := range template.Spec.Containers {
		echo = echo || strings.Contains(c.Image, "/echo-basic")
		for _, e := range c.Env {
			env[e.Name] = true
		}
	}
	switch {
	case !echo || env["TCP_ECHO_SERVER"] || env["UDP_ECHO_SERVER"]:
		return p, nil // of protocols that nobody asks for
	case env["GRPC_ECHO_SERVER"]:
		return p, p.serveGRPC()
	}
	if err := p.serveHTTP(3000, p.handler(), func(protocols *http.Protocols) { protocols.SetHTTP1(true) }); err != nil {
		return nil, err
	}
	return p, p.serveHTTP(3001, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			http.Error(w, "HTTP/2 is expected", http.StatusBadRequest)
			return
		}
		p.echo(w, r)
	}), func(protocols *http.Protocols) { protocols.SetHTTP1(true); protocols.SetUnencryptedHTTP2(true) })
}

func (p *pod) listen(port uint16) (net.Listener, error) {
	return new(net.ListenConfig).Listen(context.Background(), "tcp", netip.AddrPortFrom(p.address, port).String())
}

func (p *pod) serveHTTP(port uint16, handler http.Handler, protocols func(*http.Protocols)) error {
	l, err := p.listen(port)
	if err != nil {
		return err
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols), ErrorLog: log.New(io.Discard, "", 0)}
	protocols(s.Protocols)
	p.closers = append(p.closers, s.Close)
	go func() { _ = s.Serve(l) }()
	return nil
}

func (p *pod) serveGRPC() error {
	l, err := p.listen(3000)
	if err != nil {
		return err
	}
	s := grpc.NewServer()
	registerEcho(s, p)
	p.closers = append(p.closers, func() error { s.Stop(); return nil })
	go func() { _ = s.Serve(l) }()
	return nil
}

func (p *pod) close() {
	for _, c := range p.closers {
		_ = c()
	}
}

// lines are what a pod has printed, with the moment.
type lines struct {
	mu   sync.Mutex
	list []line
}

type line struct {
	at   time.Time
	text string
}

func (l *lines) printf(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.list = append(l.list, line{time.Now(), fmt.Sprintf(format, args...)})
}

func (l *lines) since(at time.Time) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var b strings.Builder
	for _, line := range l.list {
		if !line.at.Before(at) {
			b.WriteString(line.text + "\n")
		}
	}
	return b.String()
}
