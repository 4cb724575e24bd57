package policy

import (
	"maps"
	"net/netip"
	"slices"
)

// setPod replaces a pod; nil removes it. A pod without addresses, finished or of its node's network, is as good as none.
func (w *world) setPod(key Name, object *Pod) {
	old := w.pods[key]
	var p *pod
	if object != nil {
		if addrs := object.Addrs(); len(addrs) > 0 {
			slices.SortFunc(addrs, netip.Addr.Compare)
			p = &pod{Pod: object, key: key, addrs: slices.Compact(addrs), ports: object.namedPorts()}
			p.local = w.cfg.Node == "" || object.Spec.NodeName == "" || object.Spec.NodeName == w.cfg.Node
		}
	}
	if old != nil && p != nil && slices.Equal(old.addrs, p.addrs) && old.local == p.local && old.sameNode(p) && maps.Equal(old.ports, p.ports) {
		w.relabel(old, p.Pod)
		return
	}
	var addrs []netip.Addr
	var matched []*matcher
	var ports []string
	note := func(p *pod) {
		for _, a := range p.addrs {
			addrs = append(addrs, a)
			// Who shares the address is in its sets on the terms of all.
			for _, o := range w.owners[a] {
				matched = append(matched, o.matched...)
				for port := range o.ports {
					ports = append(ports, port.name)
				}
			}
		}
	}
	if old != nil {
		note(old)
		w.detach(old)
	}
	if p != nil {
		w.attach(p)
		note(p)
	}
	for _, a := range addrs {
		w.unplaced[a] = struct{}{}
		// A pod that shares an address is put elsewhere when it does no more.
		for _, o := range w.owners[a] {
			w.unplace(o)
		}
		for _, m := range matched {
			for s := range m.members {
				w.refresh(s, a)
			}
		}
		for _, name := range ports {
			w.refreshPorts(name, a)
		}
	}
}

// sameNode says that the own node's addresses are found in the same places.
func (p *pod) sameNode(q *pod) bool {
	return p.Spec.NodeName == q.Spec.NodeName && p.Status.HostIP == q.Status.HostIP && slices.Equal(p.Status.HostIPs, q.Status.HostIPs)
}

func (w *world) attach(p *pod) {
	w.pods[p.key] = p
	p.space = w.space(p.key.Namespace)
	p.space.pods[p] = struct{}{}
	for _, a := range p.addrs {
		i, _ := slices.BinarySearchFunc(w.owners[a], p, comparePods)
		w.owners[a] = slices.Insert(w.owners[a], i, p)
		w.ownersOf(a)
	}
	w.file(p)
	link(w.byNode, p.Spec.NodeName, p)
	for port := range p.ports {
		link(w.byPort, port.name, p)
		if p.local {
			link(w.portHere, port.name, p)
		}
	}
	p.matched = w.matchers.of(p)
	for _, m := range p.matched {
		m.pods[p] = struct{}{}
	}
}

func (w *world) detach(p *pod) {
	delete(w.pods, p.key)
	delete(p.space.pods, p)
	w.forgetNamespace(p.key.Namespace, p.space)
	for _, a := range p.addrs {
		w.owners[a] = slices.DeleteFunc(w.owners[a], func(o *pod) bool { return o == p })
		w.ownersOf(a)
	}
	w.unfile(p)
	unlink(w.byNode, p.Spec.NodeName, p)
	for port := range p.ports {
		unlink(w.byPort, port.name, p)
		unlink(w.portHere, port.name, p)
	}
	for _, m := range p.matched {
		delete(m.pods, p)
	}
}

// ownersOf tells the Evaluator whose an address is.
func (w *world) ownersOf(a netip.Addr) {
	if len(w.owners[a]) == 0 {
		delete(w.owners, a)
		delete(w.ev.pods, a)
		return
	}
	list := make([]*Pod, len(w.owners[a]))
	for i, p := range w.owners[a] {
		list[i] = p.Pod
	}
	w.ev.pods[a] = list
}

func (w *world) file(p *pod) {
	for k, v := range p.Meta.Labels {
		link(w.byLabel, file{'p', "", k, v}, p)
		link(w.byLabel, file{'p', p.key.Namespace, k, v}, p)
	}
}

func (w *world) unfile(p *pod) {
	for k, v := range p.Meta.Labels {
		unlink(w.byLabel, file{'p', "", k, v}, p)
		unlink(w.byLabel, file{'p', p.key.Namespace, k, v}, p)
	}
}

// relabel is setPod for a pod that has at most other labels.
func (w *world) relabel(p *pod, object *Pod) {
	same := maps.Equal(p.Meta.Labels, object.Meta.Labels)
	if !same {
		w.unfile(p)
	}
	p.Pod = object
	for _, a := range p.addrs {
		w.ownersOf(a)
	}
	if !same {
		w.file(p)
		w.match(p)
	}
}

// match asks the matchers anew after labels changed, the pod's or its namespace's.
func (w *world) match(p *pod) {
	now := w.matchers.of(p)
	changed := map[*matcher]struct{}{}
	for _, m := range p.matched {
		changed[m] = struct{}{}
	}
	for _, m := range now {
		if _, ok := m.pods[p]; ok {
			delete(changed, m)
		} else {
			changed[m] = struct{}{}
		}
	}
	for _, m := range p.matched {
		delete(m.pods, p)
	}
	for _, m := range now {
		m.pods[p] = struct{}{}
	}
	p.matched = now
	for m := range changed {
		if len(m.subjects) > 0 {
			w.unplace(p)
		}
		for s := range m.members {
			for _, a := range p.addrs {
				w.refresh(s, a)
			}
		}
	}
}

// noPorts is what most pods have; nobody writes to it.
var noPorts = map[namedPort]uint16{}

// namedPorts resolves the names of a pod's ports: the first container that has one decides.
func (p *Pod) namedPorts() map[namedPort]uint16 {
	ports := noPorts
	note := func(c *Container) {
		for _, port := range c.Ports {
			key := namedPort{port.Name, port.Protocol.orTCP()}
			if _, ok := ports[key]; !ok && port.Name != "" {
				if len(ports) == 0 {
					ports = map[namedPort]uint16{}
				}
				ports[key] = port.ContainerPort
			}
		}
	}
	for i := range p.Spec.Containers {
		note(&p.Spec.Containers[i])
	}
	for i := range p.Spec.InitContainers {
		if c := &p.Spec.InitContainers[i]; c.RestartPolicy == "Always" {
			note(c)
		}
	}
	return ports
}
