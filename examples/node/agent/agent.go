package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/vxlan"
)

// What the agent makes is marked with these, so that other users of the packages may work beside it.
const (
	alias = "podplumb:node"
	table = "podplumb-node"
)

// agent brings this node to what the nodes' declarations say, and keeps it there.
type agent struct {
	options
	out     io.Writer
	printed sync.Mutex

	ns       *netns.NS
	overlay  *vxlan.Client
	nat      *nat.Client
	warnings []string // last told
	have     *desired // what is in the kernel; nil before the first, and when a change failed
}

func newAgent(o options, out io.Writer) (*agent, error) {
	a := &agent{options: o, out: out}
	var err error
	if a.ns, err = netns.Current(); err != nil {
		return nil, err
	}
	if a.overlay, err = vxlan.New(vxlan.Config{NetNS: a.ns, Alias: alias}); err == nil {
		a.nat, err = nat.New(nat.Config{NetNS: a.ns, Table: table, Repaired: a.repaired})
	}
	if err != nil {
		a.close()
		return nil, err
	}
	return a, nil
}

// close closes handles. What is in the kernel stays and works.
func (a *agent) close() {
	if a.nat != nil {
		_ = a.nat.Close()
	}
	if a.overlay != nil {
		_ = a.overlay.Close()
	}
	_ = a.ns.Close()
}

func (a *agent) say(format string, args ...any) {
	a.printed.Lock()
	defer a.printed.Unlock()
	fmt.Fprintf(a.out, format+"\n", args...)
}

// tell prints the lines of a plan.
func (a *agent) tell(plan fmt.Stringer) {
	if text := strings.TrimSuffix(plan.String(), "\n"); text != "" {
		a.say("%s", text)
	}
}

func (a *agent) repaired(plan nat.Plan, err error) {
	if err != nil {
		a.say("repair of masquerading: %v", err)
		return
	}
	a.say("repaired masquerading:")
	a.tell(plan)
}

// A change that failed is tried again after growing pauses.
const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
)

// follow does what the source of nodes says until ctx ends.
func (a *agent) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel(nil)

	latest := make(chan []corev1.Node, 1)
	running.Go(func() {
		cancel(a.watchNodes(ctx, func(nodes []corev1.Node, err error) {
			if err != nil {
				a.say("the nodes as they were: %v", err)
				return
			}
			select { // what was told before and not yet read is old
			case <-latest:
			default:
			}
			latest <- nodes
		}))
	})
	var nodes []corev1.Node
	pause := firstPause
	again := time.NewTimer(time.Hour)
	again.Stop()
	watched := false
	for {
		select {
		case <-ctx.Done():
			if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		case nodes = <-latest:
			pause = firstPause
		case <-again.C:
			pause = min(2*pause, lastPause)
		}
		again.Stop()
		if err := a.apply(ctx, nodes); err != nil && ctx.Err() == nil {
			a.say("%v", err)
			again.Reset(pause)
		}
		if !watched && a.have != nil {
			watched = true
			started := make(chan struct{})
			overlay := a.have.overlay
			running.Go(func() { cancel(a.keepOverlay(ctx, overlay, sync.OnceFunc(func() { close(started) }))) })
			running.Go(func() { _ = a.nat.Watch(ctx) }) // ends with ctx alone
			select {                                    // later changes must come after the state that it begins with
			case <-started:
			case <-ctx.Done():
			}
		}
	}
}

func (a *agent) watchNodes(ctx context.Context, tell teller) error {
	if a.nodes != "" {
		return watchFiles(ctx, a.nodes, tell)
	}
	return watchCluster(ctx, a.kubeconfig, tell)
}

// patience bounds one change of the kernel.
const patience = 30 * time.Second

// apply brings the node to what the nodes say. What it was stays when they say nothing of this node.
func (a *agent) apply(ctx context.Context, nodes []corev1.Node) error {
	want, warnings, err := desire(&a.options, nodes)
	if err != nil {
		warnings = append(warnings, err.Error())
	}
	if !slices.Equal(warnings, a.warnings) {
		for _, w := range warnings {
			a.say("waiting: %s", w)
		}
		a.warnings = warnings
	}
	if err != nil || a.have != nil && reflect.DeepEqual(*a.have, want) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	have := a.have
	a.have = nil // a change that fails halfway leaves something in between: the next one looks at everything
	changes, err := forward(a.ns, want.ranges)
	for _, c := range changes {
		a.say("%s", c)
	}
	if err != nil {
		return err
	}
	// The overlay first: a range that is not masqueraded any more must have its route by then.
	plan, err := a.join(ctx, have, want.overlay)
	a.tell(plan)
	if err != nil {
		return err
	}
	translated, err := a.nat.Sync(ctx, want.nat)
	a.tell(translated)
	if err != nil {
		return err
	}
	if err := a.publish(ctx, want); err != nil {
		return err
	}
	if have == nil {
		a.say("ready: pods in %s; other nodes: %d", join(want.ranges), len(want.overlay.Peers))
	}
	a.have = &want
	return nil
}

// join brings the overlay device to what is wanted. When only peers differ it costs no more than these.
func (a *agent) join(ctx context.Context, have *desired, want vxlan.Device) (plan fmt.Stringer, err error) {
	if have == nil || !sameDevice(have.overlay, want) {
		plan, err = a.overlay.Sync(ctx, vxlan.State{Devices: []vxlan.Device{want}})
		if err != nil {
			return plan, err
		}
		return plan, loosen(a.ns, want.Name)
	}
	var gone []netip.Addr
	var set []vxlan.Peer
	for _, p := range have.overlay.Peers {
		if !slices.ContainsFunc(want.Peers, func(q vxlan.Peer) bool { return q.VTEP == p.VTEP }) {
			gone = append(gone, p.VTEP)
		}
	}
	for _, p := range want.Peers {
		if !slices.ContainsFunc(have.overlay.Peers, func(q vxlan.Peer) bool { return reflect.DeepEqual(p, q) }) {
			set = append(set, p)
		}
	}
	var text strings.Builder
	if len(gone) > 0 { // first: a range may have gone from one node to another
		dropped, err := a.overlay.DropPeers(ctx, want.Name, gone...)
		text.WriteString(dropped.String())
		if err != nil {
			return &text, err
		}
	}
	if len(set) > 0 {
		added, err := a.overlay.SetPeers(ctx, want.Name, set...)
		text.WriteString(added.String())
		if err != nil {
			return &text, err
		}
	}
	return &text, nil
}

// sameDevice compares all but the peers.
func sameDevice(a, b vxlan.Device) bool {
	a.Peers, b.Peers = nil, nil
	return reflect.DeepEqual(a, b)
}

// publish writes the CNI configuration. It comes last: a kubelet that finds it takes the node for ready.
func (a *agent) publish(ctx context.Context, want desired) error {
	if a.conflist == "" {
		return nil
	}
	resolved, err := a.overlay.Resolve(ctx, vxlan.State{Devices: []vxlan.Device{want.overlay}})
	if err != nil {
		return err
	}
	changed, err := replace(a.conflist, render(&a.options, want.ranges, resolved.Devices[0].MTU))
	if changed {
		a.say("wrote %s", a.conflist)
	}
	return err
}

// keepOverlay puts back what others take away, beginning with the overlay as it is. It returns when ctx ends, or the kernel's events cannot be
// read any more: then it takes a new agent.
func (a *agent) keepOverlay(ctx context.Context, overlay vxlan.Device, started func()) error {
	var last error
	for plan, err := range a.overlay.Watch(ctx, vxlan.State{Devices: []vxlan.Device{overlay}}) {
		if last = err; err != nil {
			a.say("repair of the overlay: %v", err)
		} else if !plan.Empty() {
			a.say("repaired the overlay:")
			a.tell(plan)
		}
		if err := loosen(a.ns, a.device); err != nil {
			a.say("%v", err)
		}
		started()
	}
	return last
}

// down removes what an agent has made. The CNI configuration goes first: no pod is to be started without a way to the others.
func (a *agent) down(ctx context.Context) error {
	var faults []error
	if a.conflist != "" {
		removed, err := withdraw(&a.options)
		if removed {
			a.say("removed %s", a.conflist)
		}
		faults = append(faults, err)
	}
	plan, err := a.overlay.Sync(ctx, vxlan.State{})
	a.tell(plan)
	faults = append(faults, err)
	translated, err := a.nat.Sync(ctx, nat.State{})
	a.tell(translated)
	return errors.Join(append(faults, err)...)
}

func join(ranges []netip.Prefix) string {
	var texts []string
	for _, r := range ranges {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, ", ")
}
