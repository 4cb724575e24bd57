package capture

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
)

// The proxy's ports in every pod.
const (
	OutboundPort = 15001
	InboundPort  = 15006
	DNSPort      = 15053
)

// Mark is the packet mark of a proxy's own sockets when it serves pods from
// outside (SO_MARK), and has no user of its own in them.
const Mark = 0x4d4553

// Config says what is captured, and what is not.
type Config struct {
	// NetNS is the pod's network namespace; nil is the one that New is called in.
	NetNS *netns.NS

	// User is the user that a proxy inside of the pod runs as; its connections
	// are not captured. Zero means that the proxy is outside and marks them.
	User uint32

	// DNS also captures questions to name servers.
	DNS bool

	// From and To are not captured: addresses that probes come from, networks
	// that are reached directly.
	From, To []netip.Prefix

	// Inbound and Outbound are destination ports that are not captured.
	Inbound, Outbound []nat.Ports

	// Every is how long it takes at most until a new listener is captured,
	// zero is 200 ms. In the first seconds, and after a change, it is a tenth.
	Every time.Duration
}

// calm is how long nothing has to change until it is looked less often.
const calm = 10 * time.Second

// Capture keeps a pod captured.
type Capture struct {
	config Config
	client *nat.Client
	diag   *diag
	ports  listened
}

// New opens what a Capture needs, and changes nothing yet.
func New(c Config) (*Capture, error) {
	if c.Every == 0 {
		c.Every = 200 * time.Millisecond
	}
	client, err := nat.New(nat.Config{NetNS: c.NetNS, Table: "podplumb-mesh"})
	if err != nil {
		return nil, fmt.Errorf("capture: %w", err)
	}
	d, err := openDiag(c.NetNS)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("capture: %w", err), client.Close())
	}
	return &Capture{config: c, client: client, diag: d}, nil
}

// Begin captures what begins from now on. After an error nothing is captured
// that was not before.
func (c *Capture) Begin(ctx context.Context) error {
	ports, err := c.diag.listening()
	if err != nil {
		return fmt.Errorf("capture: begin: %w", err)
	}
	if _, err := c.client.Sync(ctx, c.state(ports)); err != nil {
		return fmt.Errorf("capture: begin: %w", err)
	}
	c.ports = ports
	return nil
}

func (c *Capture) state(ports listened) nat.State {
	capture := nat.Capture{
		Outbound: OutboundPort, Inbound: InboundPort, Closed: true, Ports: ports.both, Ports4: ports.four, Ports6: ports.six,
		Except: nat.Except{From: c.config.From, To: c.config.To, Inbound: c.config.Inbound, Outbound: c.config.Outbound},
	}
	if c.config.DNS {
		capture.DNS = DNSPort
	}
	if c.config.User != 0 {
		capture.Except.Users = []uint32{c.config.User}
	} else {
		capture.Except.Marks = []nat.Mark{{Value: Mark}}
	}
	return nat.State{Capture: capture}
}

// Follow captures ports as servers begin to listen on them, and lets go those
// where nobody listens any more, until ctx ends. Failures are told and tried
// again.
func (c *Capture) Follow(ctx context.Context, failed func(error)) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	// Where the table has no owner (before Linux 6.9), others can flush it.
	watching.Go(func() {
		if err := c.client.Watch(ctx); ctx.Err() == nil {
			failed(fmt.Errorf("capture: watch: %w", err))
		}
	})
	quick := max(c.config.Every/10, time.Millisecond)
	changed := time.Now()
	tick := time.NewTimer(quick)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		switch did, err := c.look(ctx); {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed(err)
		case did:
			changed = time.Now()
		}
		if time.Since(changed) < calm {
			tick.Reset(quick)
		} else {
			tick.Reset(c.config.Every)
		}
	}
}

// look brings the captured ports to those that are listened on.
func (c *Capture) look(ctx context.Context) (changed bool, err error) {
	ports, err := c.diag.listening()
	if err != nil {
		return false, fmt.Errorf("capture: follow: %w", err)
	}
	switch {
	case ports.equal(&c.ports):
		return false, nil
	case slices.Equal(ports.four, c.ports.four) && slices.Equal(ports.six, c.ports.six):
		_, err = c.client.Update(ctx, nat.Change{Capture: missing(ports.both, c.ports.both), Release: missing(c.ports.both, ports.both)})
	default:
		_, err = c.client.Sync(ctx, c.state(ports))
	}
	if err != nil {
		return false, fmt.Errorf("capture: follow: %w", err)
	}
	c.ports = ports
	return true, nil
}

// missing returns what is in list and not in other; both are sorted.
func missing(list, other []uint16) []uint16 {
	var out []uint16
	for _, p := range list {
		if _, ok := slices.BinarySearch(other, p); !ok {
			out = append(out, p)
		}
	}
	return out
}

// Drain ends the capture for connections that begin from now on. Those that
// were captured go on through the proxy until Remove.
func (c *Capture) Drain(ctx context.Context) error {
	state := nat.State{Capture: nat.Capture{Except: c.state(listened{}).Capture.Except}}
	if _, err := c.client.Sync(ctx, state); err != nil {
		return fmt.Errorf("capture: drain: %w", err)
	}
	return nil
}

// Remove takes all rules away.
func (c *Capture) Remove(ctx context.Context) error {
	if _, err := c.client.Sync(ctx, nat.State{}); err != nil {
		return fmt.Errorf("capture: remove: %w", err)
	}
	return nil
}

// Close closes sockets. What is captured stays captured.
func (c *Capture) Close() error { return errors.Join(c.client.Close(), c.diag.close()) }
