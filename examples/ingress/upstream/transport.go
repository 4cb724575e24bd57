package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/podplumb/podplumb/examples/ingress/route"
)

// Errors of a Transport.
var (
	ErrNoService   = errors.New("no such service or port")
	ErrNoEndpoints = errors.New("no endpoint is ready")
)

// attempts is to how many endpoints a connection is tried.
const attempts = 3

// Dial connects to endpoints; net.Dialer's DialContext, or that of a network namespace.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Transport carries requests to endpoints of backends. Its connections are kept and used again.
type Transport struct {
	transports [3]*http.Transport // by Protocol
	direct     direct             // for simple requests of HTTP/1
}

// Dialer is how endpoints are connected to: one that says nothing is waited for 3 s.
func Dialer() net.Dialer { return net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second} }

// NewTransport returns a Transport that connects with dial, nil for the process's own network.
func NewTransport(dial Dial) *Transport {
	if dial == nil {
		dialer := Dialer()
		dial = dialer.DialContext
	}
	t := &Transport{direct: direct{dial: dial}}
	for p := range t.transports {
		t.transports[p] = &http.Transport{
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				c, err := dial(ctx, network, address)
				if err != nil {
					return nil, &dialError{err}
				}
				return c, nil
			},
			MaxIdleConns:          4096,
			MaxIdleConnsPerHost:   256, // the default of 2 makes a connection for almost every request
			IdleConnTimeout:       60 * time.Second,
			ExpectContinueTimeout: time.Second,
			DisableCompression:    true,                                  // what the client and the server agree on passes as it is
			TLSClientConfig:       &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // see HTTPS
			Protocols:             new(http.Protocols),
		}
	}
	t.transports[HTTP1].Protocols.SetHTTP1(true)
	t.transports[H2C].Protocols.SetUnencryptedHTTP2(true)
	t.transports[HTTPS].Protocols.SetHTTP1(true)
	t.transports[HTTPS].Protocols.SetHTTP2(true)
	return t
}

// dialError tells that nothing of the request was sent.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

// NothingSent says whether an error of RoundTrip is one of connecting: no endpoint has seen anything of the request.
func NothingSent(err error) bool {
	var dial *dialError
	return errors.As(err, &dial)
}

// Close closes the connections that are not in use.
func (t *Transport) Close() {
	for _, transport := range t.transports {
		transport.CloseIdleConnections()
	}
	t.direct.close()
}

// RoundTrip sends a request to an endpoint of a backend, and sets at to the last that it was sent to, unless at is nil. The body
// of the response has to be closed, as with any http.RoundTripper: until then the request is under way.
func (t *Transport) RoundTrip(r *http.Request, set *Set, backend route.Backend, at *netip.AddrPort) (*http.Response, error) {
	endpoints, ok := set.Endpoints(backend)
	if !ok {
		return nil, fmt.Errorf("%s/%s:%s: %w", backend.Namespace, backend.Service, backend.Port, ErrNoService)
	}
	if len(endpoints) == 0 {
		return nil, fmt.Errorf("%s/%s:%s: %w", backend.Namespace, backend.Service, backend.Port, ErrNoEndpoints)
	}
	tried := make([]*Endpoint, 0, attempts)
	var last error
	for len(tried) < attempts {
		e := pick(endpoints, tried, time.Now())
		if e == nil {
			break
		}
		tried = append(tried, e)
		if at != nil {
			*at = e.Address
		}
		response, err := t.one(r, e)
		var dial *dialError
		if err == nil || !errors.As(err, &dial) {
			return response, err
		}
		if r.Context().Err() != nil {
			return nil, err
		}
		e.restTill.Store(time.Now().Add(rest).UnixNano())
		last = err
	}
	return nil, last
}

func (t *Transport) one(r *http.Request, e *Endpoint) (*http.Response, error) {
	protocol := e.Protocol
	if protocol == HTTP1 && r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
		protocol = H2C // gRPC has no other
	}
	var response *http.Response
	var err error
	e.underWay.Add(1)
	if protocol == HTTP1 && fits(r) {
		response, err = t.direct.RoundTrip(r, e.Address)
	} else {
		response, err = t.transports[protocol].RoundTrip(addressed(r, e))
	}
	if err != nil {
		e.underWay.Add(-1)
		return nil, err
	}
	if w, ok := response.Body.(io.Writer); ok { // a switch of protocols: both ways
		response.Body = &duplex{counted{response.Body, e, false}, w}
	} else {
		response.Body = &counted{response.Body, e, false}
	}
	return response, nil
}

// addressed is the request with the endpoint's address. It shares the headers, which no transport changes.
func addressed(r *http.Request, e *Endpoint) *http.Request {
	out := r.WithContext(r.Context())
	url := *r.URL
	out.URL = &url
	if r.Body != nil && r.Body != http.NoBody {
		out.Body = io.NopCloser(r.Body) // closed by its owner: a transport that cannot connect would close it too
	}
	out.URL.Scheme, out.URL.Host = "http", e.Address.String()
	if e.Protocol == HTTPS {
		out.URL.Scheme = "https"
	}
	return out
}

// counted ends a request with its body.
type counted struct {
	io.ReadCloser
	endpoint *Endpoint
	closed   bool
}

func (c *counted) Close() error {
	if !c.closed {
		c.closed = true
		c.endpoint.underWay.Add(-1)
	}
	return c.ReadCloser.Close()
}

// Buffered is how much can be read without waiting; negative when that is not known.
func (c *counted) Buffered() int {
	if b, ok := c.ReadCloser.(interface{ Buffered() int }); ok {
		return b.Buffered()
	}
	return -1
}

type duplex struct {
	counted
	io.Writer
}
