package service

import "slices"

// choice is the endpoints of one port of a Service after its policies have looked at them.
type choice struct {
	cluster []Endpoint // for PolicyCluster
	local   []Endpoint // for PolicyLocal
	any     bool       // some node of the cluster has a usable one
}

// choose applies readiness, the fallback to terminating endpoints and the topology, in the way kube-proxy does: Cluster and Local fall back each on its
// own; topology narrows only Cluster, and only down to endpoints that are ready (KEP-1669, KEP-2433, KEP-3015). Lists that nobody needs stay empty.
func (w *world) choose(all []candidate, useCluster, useLocal bool) choice {
	var c choice
	node := w.settings.node
	if useCluster {
		near := w.topology(all)
		c.cluster = w.endpoints(all, func(e *candidate) bool { return e.ready && near.has(e) })
		if len(c.cluster) == 0 {
			c.cluster = w.endpoints(all, (*candidate).draining)
		}
		c.any = len(c.cluster) > 0
	}
	if useLocal {
		c.local = w.endpoints(all, func(e *candidate) bool { return e.local(node) && e.ready })
		if len(c.local) == 0 {
			c.local = w.endpoints(all, func(e *candidate) bool { return e.local(node) && e.draining() })
		}
		c.any = c.any || slices.ContainsFunc(all, func(e candidate) bool { return e.ready || e.draining() })
	}
	return c
}

// endpoints returns those that keep accepts; nil when there is none.
func (w *world) endpoints(all []candidate, keep func(*candidate) bool) []Endpoint {
	n := 0
	for i := range all {
		if keep(&all[i]) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	list := make([]Endpoint, 0, n)
	for i := range all {
		if e := &all[i]; keep(e) {
			list = append(list, Endpoint{Addr: e.addr, Local: e.local(w.settings.node), Terminating: e.terminating && !e.ready})
		}
	}
	return list
}

// nearness says which endpoints this node prefers; the zero value has no preference.
type nearness struct {
	node, zone string
}

func (n nearness) has(e *candidate) bool {
	switch {
	case n.node != "":
		return slices.Contains(e.forNodes, n.node)
	case n.zone != "":
		return slices.Contains(e.forZones, n.zone)
	}
	return true
}

// topology returns the preference that the hints of the ready endpoints allow. Hints count only when every ready endpoint has one and at least one is
// for this node or zone: with anything less, following them could overload the few, or cut the node off.
func (w *world) topology(all []candidate) nearness {
	node, zone := w.settings.node, w.settings.zone
	ready, everyNode, everyZone, forNode, forZone := false, true, true, false, false
	for i := range all {
		e := &all[i]
		if !e.ready {
			continue
		}
		ready = true
		everyNode = everyNode && len(e.forNodes) > 0
		everyZone = everyZone && len(e.forZones) > 0
		forNode = forNode || node != "" && slices.Contains(e.forNodes, node)
		forZone = forZone || zone != "" && slices.Contains(e.forZones, zone)
	}
	switch {
	case ready && everyNode && forNode:
		return nearness{node: node}
	case ready && everyZone && forZone:
		return nearness{zone: zone}
	}
	return nearness{}
}
