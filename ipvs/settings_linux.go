package ipvs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

func (c *Client) timeouts(ctx context.Context) (t Timeouts, err error) {
	if err := c.take(ctx); err != nil {
		return Timeouts{}, opError("read", "timeouts", err)
	}
	defer c.give()
	stop, err := c.conn.bound(ctx)
	if err != nil {
		return t, opError("read", "timeouts", err)
	}
	defer stop()
	c.conn.request(cmdGetConfig, flagAck, Key{})
	err = c.conn.collect(1, func(payload []byte) error {
		a := attributes{b: payload}
		for a.next() {
			switch a.kind {
			case attrTimeoutTCP:
				t.TCP = time.Duration(a.u32()) * time.Second
			case attrTimeoutTCPFin:
				t.TCPFin = time.Duration(a.u32()) * time.Second
			case attrTimeoutUDP:
				t.UDP = time.Duration(a.u32()) * time.Second
			}
		}
		return a.err
	})
	return t, opError("read", "timeouts", c.conn.cause(ctx, err))
}

func (c *Client) setTimeouts(ctx context.Context, t Timeouts) error {
	if err := t.validate(); err != nil {
		return opError("change", "timeouts", err)
	}
	if err := c.take(ctx); err != nil {
		return opError("change", "timeouts", err)
	}
	defer c.give()
	return opError("change", "timeouts", c.conn.command(ctx, cmdSetConfig, func(e *encoder) {
		e.u32(attrTimeoutTCP, uint32(t.TCP/time.Second))
		e.u32(attrTimeoutTCPFin, uint32(t.TCPFin/time.Second))
		e.u32(attrTimeoutUDP, uint32(t.UDP/time.Second))
	}))
}

// command sends one request and waits for its acknowledgement.
func (c *conn) command(ctx context.Context, cmd uint8, attrs func(*encoder)) error {
	stop, err := c.bound(ctx)
	if err != nil {
		return err
	}
	defer stop()
	c.seq++
	c.enc.reset()
	c.enc.begin(cmd, flagAck, c.seq)
	attrs(&c.enc)
	c.enc.end()
	return c.cause(ctx, c.collect(1, func([]byte) error { return nil }))
}

// sysctl pairs a switch with its key below net.ipv4.vs.
type sysctl struct {
	name string
	get  func(*Sysctls) int
	set  func(*Sysctls, int)
}

func toggle(name string, field func(*Sysctls) *bool) sysctl {
	get := func(s *Sysctls) int {
		if *field(s) {
			return 1
		}
		return 0
	}
	return sysctl{name, get, func(s *Sysctls, v int) { *field(s) = v != 0 }}
}

func sysctls() []sysctl {
	return []sysctl{
		toggle("conntrack", func(s *Sysctls) *bool { return &s.Conntrack }),
		{"conn_reuse_mode", func(s *Sysctls) int { return s.ConnReuseMode }, func(s *Sysctls, v int) { s.ConnReuseMode = v }},
		toggle("expire_nodest_conn", func(s *Sysctls) *bool { return &s.ExpireNodest }),
		toggle("expire_quiescent_template", func(s *Sysctls) *bool { return &s.ExpireQuiescent }),
		toggle("sloppy_tcp", func(s *Sysctls) *bool { return &s.SloppyTCP }),
	}
}

func (c *Client) sysctls() (Sysctls, error) {
	var out Sysctls
	for _, s := range sysctls() {
		v, err := c.sysctl(s)
		if err != nil {
			return Sysctls{}, err
		}
		s.set(&out, v)
	}
	return out, nil
}

func (c *Client) sysctl(s sysctl) (int, error) {
	text, err := c.ns.Sysctl("net.ipv4.vs." + s.name)
	if errors.Is(err, fs.ErrNotExist) && s.name == "conntrack" {
		return 0, nil // CONFIG_IP_VS_NFCT is not set: off for good
	}
	if err != nil {
		return 0, opError("read", "net.ipv4.vs."+s.name, err)
	}
	v, err := strconv.Atoi(strings.TrimSpace(text))
	return v, opError("read", "net.ipv4.vs."+s.name, err)
}

func (c *Client) setSysctls(want Sysctls) error {
	if want.ConnReuseMode < 0 || want.ConnReuseMode > 2 {
		return opError("change", "net.ipv4.vs.conn_reuse_mode", fmt.Errorf("%d is not 0, 1 or 2", want.ConnReuseMode))
	}
	for _, s := range sysctls() {
		have, err := c.sysctl(s)
		if err != nil {
			return err
		}
		if v := s.get(&want); v != have {
			if err := c.ns.SetSysctl("net.ipv4.vs."+s.name, strconv.Itoa(v)); err != nil {
				return opError("change", "net.ipv4.vs."+s.name, err)
			}
		}
	}
	return nil
}

func (c *Client) connections(ctx context.Context) ([]Connection, error) {
	if ctx.Err() != nil {
		return nil, opError("read", "connections", context.Cause(ctx))
	}
	var file *os.File
	err := c.ns.Do(func() (err error) {
		file, err = os.Open("/proc/thread-self/net/ip_vs_conn")
		return err
	})
	if err != nil {
		return nil, opError("read", "connections", err)
	}
	defer file.Close()
	out, err := parseConnections(file)
	return out, opError("read", "connections", err)
}
