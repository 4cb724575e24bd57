package proxy

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// answerWithin bounds a question to the name server.
const answerWithin = 5 * time.Second

// largestMessage is what a UDP datagram can hold.
const largestMessage = 65535

// mostQuestions bounds the questions that are under way; more are dropped, and
// asked again by who asked.
const mostQuestions = 1024

// answer leads captured questions by UDP to the name server.
func (p *Proxy) answer(ctx context.Context, c net.PacketConn, running *sync.WaitGroup) error {
	places := make(chan struct{}, mostQuestions)
	buf := make([]byte, largestMessage)
	for {
		n, from, err := c.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil { // such as an ICMP error about an answer of before
			continue
		}
		select {
		case places <- struct{}{}:
		default:
			continue
		}
		question := append([]byte(nil), buf[:n]...)
		running.Go(func() {
			defer func() { <-places }()
			ctx, cancel := context.WithTimeout(ctx, answerWithin)
			defer cancel()
			if got, err := p.ask(ctx, question); err == nil {
				_, _ = c.WriteTo(got, from)
			} else {
				p.config.Log.Info("name server", "error", err)
			}
		})
	}
}

func (p *Proxy) ask(ctx context.Context, question []byte) ([]byte, error) {
	c, err := p.dialer(ctx, "udp", p.config.NameServer.String())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	if _, err := c.Write(question); err != nil {
		return nil, err
	}
	buf := make([]byte, largestMessage)
	n, err := c.Read(buf)
	return buf[:n], err
}

// question leads captured questions by TCP to the name server.
func (p *Proxy) question(ctx context.Context, c net.Conn) {
	s, err := p.dialer(ctx, "tcp", p.config.NameServer.String())
	if err != nil {
		p.config.Log.Info("name server", "error", err)
		reset(c)
		return
	}
	_, _, _ = pass(side{Conn: c}, side{Conn: s})
}
