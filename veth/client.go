package veth

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"unicode"

	"github.com/podplumb/podplumb/netns"
)

// DefaultOwner is the owner of a zero Config.
const DefaultOwner = "podplumb"

// syncTries bounds how often Sync plans again because others changed the same links.
const syncTries = 20

// Config says where a client works and what is its own. The zero Config works: the calling thread's namespace, DefaultOwner.
type Config struct {
	// NetNS is the node's namespace; nil means that of the thread that calls New. The client keeps a handle of its own.
	NetNS *netns.NS
	// Owner begins the alias of every link that the client makes, and a link whose alias begins so is the client's. No spaces or
	// slashes; empty means DefaultOwner. Two programs on one node need two owners.
	Owner string
	// Attachment narrows the client down to the pairs of one attachment, such as a container id and interface name, when several
	// share the owner's bridges. Such a client makes and repairs bridges but never removes one. Empty: the client has the owner's
	// bridges and the pairs that belong to no attachment.
	Attachment string
	// ForceAddress replaces addresses of a bridge that its state does not list. Otherwise they are an *AddressError.
	ForceAddress bool
	// Announce sends a gratuitous ARP request (RFC 5227) or an unsolicited neighbour advertisement (RFC 4861) for each address that
	// Sync, Apply or Attach added, or whose link it gave another MAC address, from that link, so that neighbours forget what they knew.
	Announce bool
}

// Client keeps the bridges and pairs of one node's namespace. It is safe for concurrent use.
type Client struct {
	config Config
	tag    string // what begins the alias of this client's pairs
	k      *kernel
}

// New opens a client. It fails with an *OpError: fs.ErrPermission without the right to enter the namespace, errors.ErrUnsupported on
// other systems than Linux. It changes nothing in the kernel.
func New(c Config) (*Client, error) {
	if c.Owner == "" {
		c.Owner = DefaultOwner
	}
	var faults []error
	odd := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	if strings.ContainsFunc(c.Owner, odd) || strings.Contains(c.Owner, "/") {
		faults = append(faults, &FieldError{Path: "owner", Fault: "has spaces or slashes"})
	}
	if strings.ContainsFunc(c.Attachment, odd) {
		faults = append(faults, &FieldError{Path: "attachment", Fault: "has spaces"})
	}
	tag := c.Owner
	if c.Attachment != "" {
		tag += "/" + c.Attachment
	}
	if len(tag) > maxAlias {
		faults = append(faults, &FieldError{Path: "owner", Fault: "is, with the attachment, longer than the 255 bytes of a link alias"})
	}
	if err := errors.Join(faults...); err != nil {
		return nil, opError("new", "client", err)
	}
	k, err := openKernel(c, tag)
	if err != nil {
		return nil, opError("new", "client", err)
	}
	return &Client{config: c, tag: tag, k: k}, nil
}

// Close closes the client's sockets and handles. It changes nothing in the kernel.
func (c *Client) Close() error { return opError("close", "client", c.k.close()) }

// Read returns what the kernel holds of the client's links, in canonical form. A pair whose pod namespace cannot be found again, or
// whose pod end is no longer there, has an empty Pod.Name. With an attachment, only the bridges are told that its pairs are on.
func (c *Client) Read(ctx context.Context) (State, error) {
	o, err := c.k.observe(ctx, State{}, reading)
	if err != nil {
		return State{}, opError("read", "", err)
	}
	return o.state, nil
}

// Plan compares the kernel with want and changes nothing. Its error is all faults of want, or what stands in the way of want: a
// *ForeignError, *AddressError, *BusyError or *PodGoneError, joined when there are several.
func (c *Client) Plan(ctx context.Context, want State) (Plan, error) {
	want, err := c.accept(want)
	if err != nil {
		return Plan{}, opError("plan", "", err)
	}
	p, _, err := c.plan(ctx, want, everything)
	return p, opError("plan", "", err)
}

// PlanUpdate returns what Update would do, and changes nothing.
func (c *Client) PlanUpdate(ctx context.Context, want State) (Plan, error) {
	want, err := c.accept(want)
	if err != nil {
		return Plan{}, opError("plan", "", err)
	}
	p, _, err := c.plan(ctx, want, wantedOnly)
	return p, opError("plan", "", err)
}

// accept validates want and makes it canonical.
func (c *Client) accept(want State) (State, error) {
	if err := want.Validate(); err != nil {
		return State{}, err
	}
	want = want.Canonical()
	return want, errors.Join(want.aliases(c.tag)...)
}

// extent is what an observation takes in.
type extent int

const (
	reading    extent = iota // all that is the client's
	everything               // the same, for a plan
	wantedOnly               // what a wanted state names, for a plan
	updating                 // the same, for a plan that is carried out: who has a name in a pod shows then
)

// plan also returns the observation that the plan is made from.
func (c *Client) plan(ctx context.Context, want State, look extent) (Plan, *observation, error) {
	o, err := c.k.observe(ctx, want, look)
	if err != nil {
		return Plan{}, nil, err
	}
	p := Diff(o.state, want)
	p.look = look
	if err := c.obstacles(p, o); err != nil {
		return Plan{}, nil, err
	}
	return p, o, nil
}

// obstacles are what the plan would have to do and the client may not.
func (c *Client) obstacles(p Plan, o *observation) error {
	faults := o.obstacles
	for _, b := range p.bridges {
		if b.want == nil {
			if ports := o.foreignPorts[b.have.Name]; len(ports) > 0 {
				faults = append(faults, opError("plan", "bridge "+b.have.Name, &BusyError{Bridge: b.have.Name, Ports: ports}))
			}
			continue
		}
		var extra AddressError
		for _, a := range b.link.addrs {
			if a.Want == nil {
				extra.Have = append(extra.Have, a.Key)
			}
		}
		if len(extra.Have) > 0 && !c.config.ForceAddress {
			extra.Bridge, extra.Want = b.want.Name, b.want.Addresses
			faults = append(faults, opError("plan", "bridge "+b.want.Name, &extra))
		}
	}
	return errors.Join(faults...)
}

// Apply does what the plan says. It fails with ErrStale, and nothing changed, when the kernel's state is not the one that the plan
// was made from. When a step fails, what the call had made is undone: a pair whose address cannot be set is removed again. What it
// had removed before that stays removed. An address may still be in duplicate address detection when Apply returns, if the state
// asks for that.
func (c *Client) Apply(ctx context.Context, p Plan) error {
	if p.Empty() {
		return nil
	}
	now, o, err := c.plan(ctx, p.want, p.look)
	if err != nil {
		return opError("apply", "", err)
	}
	if !reflect.DeepEqual(now.have, p.have) {
		return opError("apply", "", ErrStale)
	}
	return opError("apply", "", c.execute(ctx, o, p))
}

// Sync plans and applies, again when others changed the same links meanwhile, and returns the first plan: what differed. A second Sync
// has an empty plan. Sync(State{}) removes everything that the client owns, also when the pods' namespaces are gone.
func (c *Client) Sync(ctx context.Context, want State) (Plan, error) {
	p, err := c.sync(ctx, want, everything)
	return p, opError("sync", "", err)
}

// Update is Sync for the bridges and pairs that want lists: all others stay as they are and are not looked at, so that it costs the
// same however many there are.
func (c *Client) Update(ctx context.Context, want State) (Plan, error) {
	p, err := c.sync(ctx, want, updating)
	return p, opError("update", "", err)
}

func (c *Client) sync(ctx context.Context, want State, look extent) (Plan, error) {
	want, err := c.accept(want)
	if err != nil {
		return Plan{}, err
	}
	var first *Plan
	for range syncTries {
		var p Plan
		var o *observation
		if p, o, err = c.plan(ctx, want, look); err != nil {
			return Plan{}, err
		}
		if first == nil {
			first = &p
		}
		err = c.execute(ctx, o, p)
		if err == nil {
			return *first, nil
		}
		if !errors.Is(err, ErrStale) {
			return *first, err
		}
	}
	return *first, err
}

// MAC returns the Ethernet address of a link of the node, such as a bridge whose state leaves it open. It fails with fs.ErrNotExist when
// there is no such link.
func (c *Client) MAC(ctx context.Context, link string) (MAC, error) {
	m, err := c.k.mac(ctx, link)
	return m, opError("read", "link "+link, err)
}

// execute carries the plan out and, when that disturbed more than the plan names (a link that goes down loses its routes, an address
// takes others of its subnet along), what is then missing.
func (c *Client) execute(ctx context.Context, o *observation, p Plan) error {
	if p.Empty() {
		return nil
	}
	j := &journal{}
	err := c.k.execute(ctx, o, p, j)
	for round := 0; err == nil && p.disturbs() && round < 3; round++ {
		var again *observation
		if p, again, err = c.plan(ctx, p.want, p.look); err != nil {
			break
		}
		err = c.k.execute(ctx, again, p, j)
	}
	if err != nil {
		return errors.Join(err, j.undo(ctx))
	}
	return c.k.announceAll(ctx, j.announce)
}

// disturbs reports whether carrying p out can change objects that it does not name.
func (p Plan) disturbs() bool {
	link := func(c *linkChange) bool {
		if c.has(setState, setMTU, setBridge, setFiltering) {
			return true
		}
		for _, a := range c.addrs {
			if a.Want == nil {
				return true
			}
		}
		return false
	}
	for i := range p.bridges {
		if b := &p.bridges[i]; b.have != nil && b.want != nil && link(&b.link) {
			return true
		}
	}
	for i := range p.pairs {
		if x := &p.pairs[i]; x.have != nil && x.want != nil && !x.replace && (link(&x.host) || link(&x.pod)) {
			return true
		}
	}
	return false
}

// Attach makes one pair without reading anything but its bridge, at a cost that does not depend on what else the node has. A name that
// is taken, in the node or in the pod, is fs.ErrExist. The bridge, if the pair names one, must exist. When a step fails the pair is
// removed again.
func (c *Client) Attach(ctx context.Context, p Pair) error {
	want, err := c.accept(State{Pairs: []Pair{p}})
	if err != nil {
		return opError("attach", "pair "+p.Host.Name, err)
	}
	j := &journal{}
	if err := c.k.attach(ctx, &want.Pairs[0], nil, false, j); err != nil {
		return opError("attach", "pair "+p.Host.Name, errors.Join(err, j.undo(ctx)))
	}
	return opError("attach", "pair "+p.Host.Name, c.k.announceAll(ctx, j.announce))
}

// Detach removes the pairs with the given names of the node's ends. A name that does not exist is not an error; one that is not this
// client's pair is a *ForeignError, and then nothing is removed. Several go in about the time of one.
func (c *Client) Detach(ctx context.Context, names ...string) error {
	return opError("detach", "pair "+strings.Join(names, ", "), c.k.detach(ctx, names))
}

// DetachGroup removes all links of an IFLA_GROUP in one request: see Pair.Group. A link in the group that is not a pair of this client
// is a *ForeignError, and then nothing is removed. A group without links is not an error; group 0 is.
func (c *Client) DetachGroup(ctx context.Context, group uint32) error {
	return opError("detach", "group", c.k.detachGroup(ctx, group))
}

// Attachments lists the attachments of the client's owner that have a pair in the node, sorted, so that those can be collected whose
// container is gone.
func (c *Client) Attachments(ctx context.Context) ([]string, error) {
	a, err := c.k.attachments(ctx, c.config.Owner)
	return a, opError("list", "attachments", err)
}

// Announce sends, from each link that want lists and that is up, a gratuitous ARP request or an unsolicited neighbour advertisement for
// each of its addresses, as Config.Announce does for new ones. It changes nothing here.
func (c *Client) Announce(ctx context.Context, want State) error {
	want, err := c.accept(want)
	if err != nil {
		return opError("announce", "", err)
	}
	return opError("announce", "", c.k.announceState(ctx, want))
}
