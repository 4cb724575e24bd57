package veth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"github.com/podplumb/podplumb/internal/rtnl"
)

// readPods fills in the pods' ends, several at a time.
func (o *observation) readPods(ctx context.Context, k *kernel, want State, pairs []*rtnl.Link) error {
	const workers = 8
	var wg sync.WaitGroup
	errs := make([]error, len(pairs))
	aliases := make([]string, len(pairs))
	turn := make(chan struct{}, workers)
	for i, l := range pairs {
		wg.Add(1)
		turn <- struct{}{}
		go func() {
			defer func() { <-turn; wg.Done() }()
			pod := &o.state.Pairs[i].Pod
			var err error
			if aliases[i], err = k.readPod(ctx, l, pod, &wantedPair(want, l.Name).Pod); err != nil {
				errs[i] = opError("read", "pair "+l.Name+" pod", err)
			}
		}()
	}
	wg.Wait()
	o.podAliases = map[string]string{}
	for i, l := range pairs {
		o.podAliases[l.Name] = aliases[i]
	}
	return errors.Join(errs...)
}

// readPod reads the pod's end of the pair, and returns its alias. It leaves the name empty when the end is not where the pair's alias says.
func (k *kernel) readPod(ctx context.Context, host *rtnl.Link, pod, want *Pod) (alias string, err error) {
	pl, err := openPod(pod.NetNS)
	if gone := (*PodGoneError)(nil); errors.As(err, &gone) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer pl.close()
	l, err := k.peer(ctx, pl, host)
	if err != nil || l == nil {
		return "", err
	}
	*pod = Pod{NetNS: pod.NetNS, Name: l.Name, MAC: MAC(l.MAC), MTU: l.MTU, Down: !l.Up()}
	ip, err := pl.readIP(ctx, []int{l.Index}, false)
	if err != nil {
		return "", err
	}
	pod.Addresses = ip.addresses(l, want.Addresses, false)
	pod.Routes = ip.routesOf(l.Index, want.Routes)
	return l.Alias, pl.ns.Do(func() (err error) {
		pod.Sysctls, pod.DAD, err = readSysctls(l.Name, parseTag(l.Alias).sysctls, want.Sysctls)
		return err
	})
}

// peer finds the other end of the pair in pl, or nil if pl is not where it is.
func (k *kernel) peer(ctx context.Context, pl *place, host *rtnl.Link) (*rtnl.Link, error) {
	if host.PeerNSID < 0 {
		if !pl.ns.Equal(k.node.ns) {
			return nil, nil
		}
	} else if id, err := k.node.conn.NSID(ctx, pl.ns.Fd()); err != nil || id != host.PeerNSID {
		return nil, err
	}
	l, err := pl.conn.LinkByIndex(ctx, host.Peer)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case l.Kind != "veth" || l.Peer != host.Index:
		return nil, nil
	}
	return &l, nil
}

// findObstacles looks for what holds the names that want gives to new links, and for what want takes for granted.
func (o *observation) findObstacles(ctx context.Context, k *kernel, want State, look extent) error {
	have := map[string]*Pair{}
	ends := map[[2]string]bool{}
	for i := range o.state.Pairs {
		p := &o.state.Pairs[i]
		have[p.Host.Name] = p
		ends[[2]string{p.Pod.NetNS, p.Pod.Name}] = true
	}
	for i := range want.Bridges {
		b := &want.Bridges[i]
		if l := o.links[b.Name]; l != nil && !k.ownsBridge(l) && have[b.Name] == nil {
			o.obstacles = append(o.obstacles, opError("plan", "bridge "+b.Name, foreign(l, "")))
		}
	}
	for i := range want.Pairs {
		p := &want.Pairs[i]
		at := "pair " + p.Host.Name
		if l := o.links[p.Host.Name]; l != nil && !k.ownsPair(l) && !(k.ownsBridge(l) && k.config.Attachment == "") {
			o.obstacles = append(o.obstacles, opError("plan", at, foreign(l, "")))
		}
		if name := p.Host.Bridge; name != "" && !slices.ContainsFunc(want.Bridges, func(b Bridge) bool { return b.Name == name }) {
			switch l := o.links[name]; {
			case l == nil:
				o.obstacles = append(o.obstacles, opError("plan", at, fmt.Errorf("bridge %s: %w", name, fs.ErrNotExist)))
			case l.Kind != "bridge":
				o.obstacles = append(o.obstacles, opError("plan", at, foreign(l, "")))
			case k.ownsBridge(l) && k.config.Attachment == "":
				fault := &FieldError{Path: "host.bridge", Fault: name + " is this client's own and the state does not list it, so it would be removed"}
				o.obstacles = append(o.obstacles, opError("plan", at, fault))
			}
		}
		if look == updating {
			continue
		}
		if h := have[p.Host.Name]; h != nil && h.Pod.NetNS == p.Pod.NetNS && h.Pod.Name == p.Pod.Name {
			continue
		}
		err := freeInPod(ctx, &p.Pod, ends)
		switch gone, taken := (*PodGoneError)(nil), (*ForeignError)(nil); {
		case errors.As(err, &gone), errors.As(err, &taken):
			o.obstacles = append(o.obstacles, opError("plan", at, err))
		case err != nil:
			return opError("plan", at, err)
		}
	}
	return nil
}

// freeInPod reports a link of the pod that has the wanted name and is not an end that the same plan moves away.
func freeInPod(ctx context.Context, pod *Pod, ends map[[2]string]bool) error {
	pl, err := openPod(pod.NetNS)
	if err != nil {
		return err
	}
	defer pl.close()
	l, err := pl.conn.LinkByName(ctx, pod.Name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case ends[[2]string{pod.NetNS, pod.Name}]:
		return nil
	}
	return foreign(&l, pod.NetNS)
}
