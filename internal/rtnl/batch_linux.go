package rtnl

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"
)

// batchSize bounds the requests of one datagram: were the kernel to refuse them all, its replies still fit into a socket's default buffer.
const batchSize = 100

// Batch is a list of requests that go to the kernel many to a datagram, with one acknowledgement, which costs a third to a half less than one by
// one. They are carried out in their order, and one that is refused does not keep the others back. The zero Batch is empty.
type Batch struct{ requests []request }

// Len returns the number of requests.
func (b *Batch) Len() int { return len(b.requests) }

// AddNeigh adds what Conn.AddNeigh asks for.
func (b *Batch) AddNeigh(n Neigh) {
	b.requests = append(b.requests, neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_EXCL, &n))
}

// ReplaceNeigh adds what Conn.ReplaceNeigh asks for.
func (b *Batch) ReplaceNeigh(n Neigh) {
	b.requests = append(b.requests, neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &n))
}

// AppendNeigh adds what Conn.AppendNeigh asks for.
func (b *Batch) AppendNeigh(n Neigh) {
	b.requests = append(b.requests, neighRequest(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_APPEND, &n))
}

// DelNeigh adds what Conn.DelNeigh asks for.
func (b *Batch) DelNeigh(n Neigh) {
	b.requests = append(b.requests, neighRequest(unix.RTM_DELNEIGH, 0, &n))
}

// AddRoute adds what Conn.AddRoute asks for.
func (b *Batch) AddRoute(r Route) {
	b.requests = append(b.requests, routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, &r))
}

// ReplaceRoute adds what Conn.ReplaceRoute asks for.
func (b *Batch) ReplaceRoute(r Route) {
	b.requests = append(b.requests, routeRequest(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE, &r))
}

// DelRoute adds what Conn.DelRoute asks for.
func (b *Batch) DelRoute(r Route) {
	b.requests = append(b.requests, routeRequest(unix.RTM_DELROUTE, 0, &r))
}

// Send carries the batch out and calls refused with the index and the kernel's error of each request that failed. It returns an error when the
// exchange itself failed; a datagram that was sent has been carried out then, the later ones were not sent.
func (c *Conn) Send(ctx context.Context, b *Batch, refused func(i int, err error)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for start := 0; start < len(b.requests); start += batchSize {
		part := b.requests[start:min(start+batchSize, len(b.requests))]
		if err := c.sendPart(ctx, part, func(i int, err error) { refused(start+i, err) }); err != nil {
			return err
		}
	}
	return nil
}

// sendPart sends one datagram and reads the refusals and the acknowledgement of its last request.
func (c *Conn) sendPart(ctx context.Context, part []request, refused func(i int, err error)) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	first := c.seq + 1
	var data []byte
	for i, r := range part {
		c.seq++
		r.Seq = c.seq
		if i == len(part)-1 {
			r.Flags |= unix.NLM_F_ACK
		}
		data = append(data, r.Serialize()...)
		data = append(data, make([]byte, align(len(data))-len(data))...)
	}
	wait := c.sock.Wait(ctx, DefaultTimeout)
	defer wait.End()
	if err := c.sock.Send(wait, data); err != nil {
		return wait.Cause(err)
	}
	for {
		data, err := c.sock.Receive(wait)
		if err != nil {
			return wait.Cause(err)
		}
		for len(data) >= unix.SizeofNlMsghdr {
			h := header(data)
			if h.Len < unix.SizeofNlMsghdr || int(h.Len) > len(data) {
				return fmt.Errorf("malformed netlink message of %d bytes", h.Len)
			}
			payload := data[unix.SizeofNlMsghdr:h.Len]
			data = data[min(align(int(h.Len)), len(data)):]
			if h.Type != unix.NLMSG_ERROR || h.Seq-first >= uint32(len(part)) {
				continue
			}
			if err := parseError(&h, payload); err != nil {
				refused(int(h.Seq-first), err)
			}
			if h.Seq == c.seq {
				return nil
			}
		}
	}
}
