package world

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/manifest"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/proxy"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/nat"
)

// The label and the annotations of the mesh.
const (
	Label             = "podplumb.github.io/mesh"
	annotation        = "podplumb.github.io/mesh-"
	sidecar           = annotation + "sidecar"
	permissive        = annotation + "permissive"
	allow             = annotation + "allow"
	excludeInbound    = annotation + "exclude-inbound"
	excludeOutbound   = annotation + "exclude-outbound"
	enabled, disabled = "enabled", "disabled"
)

// Pod is a pod that has addresses of its own.
type Pod struct {
	Workload *stream.Workload
	UID      string
	Policy   proxy.Policy

	// Sidecar is the user that the pod's own proxy runs as, zero without one.
	Sidecar uint32

	// ExcludeInbound and ExcludeOutbound are ports that are not captured.
	ExcludeInbound, ExcludeOutbound []nat.Ports
}

// pod reads an object. It is nil for a pod without addresses of its own, or
// that has ended.
func (w *World) pod(o *corev1.Pod) (*Pod, error) {
	if o.Spec.HostNetwork || o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	texts := []string{o.Status.PodIP}
	for _, ip := range o.Status.PodIPs {
		texts = append(texts, ip.IP)
	}
	addrs := parse(texts)
	if len(addrs) == 0 {
		addrs = manifest.ParsePodIPs(o.Annotations)
	}
	if len(addrs) == 0 {
		return nil, nil
	}
	account := o.Spec.ServiceAccountName
	if account == "" {
		account = "default"
	}
	id, err := identity.IDOf(w.domain, o.Namespace, account)
	if err != nil {
		return nil, fmt.Errorf("Pod %s/%s: spec.serviceAccountName: %w", o.Namespace, o.Name, err)
	}
	p := &Pod{
		UID: string(o.UID),
		Workload: &stream.Workload{
			Namespace: o.Namespace, Name: o.Name, ServiceAccount: account, Node: o.Spec.NodeName, Labels: maps.Clone(o.Labels),
			Addresses: compact(addrs), ID: id,
		},
	}
	r := reader{domain: w.domain, pod: o}
	p.Workload.Meshed = r.meshed(w.namespaces[name{"", o.Namespace}])
	p.Policy = r.policy()
	p.Sidecar = r.user(sidecar)
	p.ExcludeInbound, p.ExcludeOutbound = r.ports(excludeInbound), r.ports(excludeOutbound)
	return p, errors.Join(r.faults...)
}

func compact[T comparable](list []T) []T {
	var out []T
	for _, v := range list {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
	}
	return out
}

// reader reads what labels and annotations say, and notes their faults.
type reader struct {
	domain spiffeid.TrustDomain
	pod    *corev1.Pod
	faults []error
}

func (r *reader) fault(field, format string, args ...any) {
	r.faults = append(r.faults, fmt.Errorf("Pod %s/%s: metadata.%s: %w", r.pod.Namespace, r.pod.Name, field, fmt.Errorf(format, args...)))
}

func (r *reader) meshed(ns *corev1.Namespace) bool {
	text, own := r.pod.Labels[Label]
	if !own && ns != nil {
		text = ns.Labels[Label]
	}
	switch text {
	case enabled:
		return true
	case disabled, "":
		return false
	}
	if own {
		r.fault(fmt.Sprintf("labels[%q]", Label), "%q is neither enabled nor disabled: taken for enabled", text)
	} else {
		r.faults = append(r.faults, fmt.Errorf("Namespace %s: metadata.labels[%q]: %q is neither enabled nor disabled: taken for enabled", ns.Name, Label, text))
	}
	return true
}

// user reads the number of a user. Root cannot be told from everybody else.
func (r *reader) user(key string) uint32 {
	text, ok := r.pod.Annotations[key]
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 {
		r.fault(fmt.Sprintf("annotations[%q]", key), "%q is no number of a user other than root", text)
		return 0
	}
	return uint32(n)
}

func (r *reader) policy() proxy.Policy {
	var p proxy.Policy
	for _, ports := range r.ports(permissive) {
		for n := int(ports.First); n <= max(int(ports.First), int(ports.Last)); n++ {
			p.Permissive = append(p.Permissive, uint16(n))
		}
	}
	for _, key := range slices.Sorted(maps.Keys(r.pod.Annotations)) {
		of, ok := strings.CutPrefix(key, allow)
		if !ok {
			continue
		}
		port := uint64(0)
		if of != "" {
			text, dot := strings.CutPrefix(of, ".")
			var err error
			if port, err = strconv.ParseUint(text, 10, 16); !dot || err != nil || port == 0 {
				r.fault(fmt.Sprintf("annotations[%q]", key), "is not %s.PORT", allow)
				continue
			}
		}
		if p.Allow == nil {
			p.Allow = map[uint16][]string{}
		}
		p.Allow[uint16(port)] = r.identities(key)
	}
	return p
}

// identities reads a list of identities; what is none lets nobody in.
func (r *reader) identities(key string) []string {
	list := []string{}
	for _, text := range items(r.pod.Annotations[key]) {
		full := text
		if !strings.HasPrefix(full, "spiffe://") {
			full = r.domain.IDString() + "/" + full
		}
		if _, err := spiffeid.FromString(strings.ReplaceAll(full, "/*", "/any")); err != nil {
			r.fault(fmt.Sprintf("annotations[%q]", key), "%q: %w", text, err)
			continue
		}
		list = append(list, full)
	}
	return list
}

func (r *reader) ports(key string) []nat.Ports {
	var list []nat.Ports
	for _, text := range items(r.pod.Annotations[key]) {
		from, to, isRange := strings.Cut(text, "-")
		first, err1 := strconv.ParseUint(from, 10, 16)
		last, err2 := first, error(nil)
		if isRange {
			last, err2 = strconv.ParseUint(to, 10, 16)
		}
		if err1 != nil || err2 != nil || first == 0 || last < first {
			r.fault(fmt.Sprintf("annotations[%q]", key), "%q is no port and no range of ports", text)
			continue
		}
		list = append(list, nat.Ports{First: uint16(first), Last: uint16(last)})
	}
	return list
}

func items(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' || r == '\n' || r == '\t' })
}
