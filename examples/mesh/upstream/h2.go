package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"time"
)

// roundTrip2 carries a request over HTTP/2.
func (p *Pool) roundTrip2(r *http.Request, informational func(int, http.Header) error) (*http.Response, error) {
	p.mu.Lock()
	switch {
	case p.closed:
		p.mu.Unlock()
		return nil, &NotSent{ErrClosed}
	case p.streams >= p.config.Connections+p.config.Pending:
		p.mu.Unlock()
		return nil, &NotSent{ErrOverflow}
	}
	old := p.h2
	if old != nil && time.Since(p.h2made) < p.config.MaxAge {
		old = nil
	} else {
		p.h2, p.h2made = p.transport(), time.Now()
	}
	transport := p.h2
	p.streams++
	p.mu.Unlock()
	shut(nil, old)
	if informational != nil {
		r = r.WithContext(httptrace.WithClientTrace(r.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, header textproto.MIMEHeader) error {
				if code == http.StatusContinue {
					return nil
				}
				return informational(code, http.Header(header))
			},
		}))
	}
	response, err := transport.RoundTrip(r)
	if err != nil {
		p.streamEnd()
		var notSent *NotSent
		if cause := context.Cause(r.Context()); cause != nil && !errors.As(err, &notSent) {
			err = cause
		}
		return nil, err
	}
	b := &h2body{ReadCloser: response.Body, ctx: r.Context(), end: p.streamEnd}
	if r.Body != nil && r.Body != http.NoBody {
		below := response.Body
		stop := context.AfterFunc(b.ctx, func() { below.Close() }) // the transport waits for the request's body first
		b.end = func() { stop(); p.streamEnd() }
	}
	response.Body = b
	return response, nil
}

func (p *Pool) streamEnd() {
	p.mu.Lock()
	p.streams--
	p.mu.Unlock()
}

func (p *Pool) transport() *http.Transport {
	t := &http.Transport{
		DialContext:            func(ctx context.Context, _, _ string) (net.Conn, error) { return p.connect(ctx, 2) },
		ExpectContinueTimeout:  continueWait,
		DisableCompression:     true, // what the client and the server agree on passes as it is
		IdleConnTimeout:        p.config.IdleTime,
		MaxResponseHeaderBytes: headLimit,
		Protocols:              new(http.Protocols),
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  15 * time.Second, // a peer that is gone without a word is found out by then, and twice that
			PingTimeout:      15 * time.Second,
			WriteByteTimeout: 30 * time.Second,
		},
	}
	t.Protocols.SetUnencryptedHTTP2(true)
	if p.retired {
		t.IdleConnTimeout = time.Second
	}
	return t
}
