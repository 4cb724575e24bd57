package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

const maxAnnotations = 256 << 10 // bytes of all keys and values

// metadata checks what the API server asks of the metadata of any object. Names of policies, pods and nodes are DNS subdomains; names of
// namespaces are checked by the caller.
func (f *faults) metadata(path string, m *Meta, namespaced bool) {
	path += ".metadata"
	switch {
	case namespaced:
		f.namespace(path+".namespace", m.Namespace)
	case m.Namespace != "":
		f.add(path+".namespace", "is set, and the object has no namespace")
	}
	if g := m.GenerateName; g != "" {
		if n := len(g); n > 1 && g[n-1] == '-' {
			g = g[:n-2] + "a" // as the API server does: what follows the dash comes later
		}
		f.subdomain(path+".generateName", g)
	}
	if m.Generation < 0 {
		f.add(path+".generation", "%d is negative", m.Generation)
	}
	f.labels(path+".labels", m.Labels)
	size := 0
	for _, k := range slices.Sorted(maps.Keys(m.Annotations)) {
		f.labelKey(path+".annotations", strings.ToLower(k))
		size += len(k) + len(m.Annotations[k])
	}
	if size > maxAnnotations {
		f.add(path+".annotations", "have %d bytes: at most %d", size, maxAnnotations)
	}
	f.owners(path+".ownerReferences", m.OwnerReferences)
	for i, s := range m.Finalizers {
		at := fmt.Sprintf("%s.finalizers[%d]", path, i)
		f.labelKey(at, s)
		// Those of the cluster's own kinds need a prefix; ClusterNetworkPolicy is none of them.
		if namespaced && !strings.Contains(s, "/") && !slices.Contains([]string{"kubernetes", "orphan", "foregroundDeletion"}, s) {
			f.add(at, "%q has no prefix such as example.com/", s)
		}
	}
	if slices.Contains(m.Finalizers, "orphan") && slices.Contains(m.Finalizers, "foregroundDeletion") {
		f.add(path+".finalizers", "orphan and foregroundDeletion exclude each other")
	}
}

func (f *faults) labels(path string, labels map[string]string) {
	if f.silent { // in any order
		for k, v := range labels {
			f.labelKey(path, k)
			f.labelValue(path, v)
		}
		return
	}
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		f.labelKey(path, k)
		f.labelValue(path+"["+k+"]", labels[k])
	}
}

func (f *faults) owners(path string, owners []OwnerReference) {
	controllers := 0
	for i := range owners {
		o := &owners[i]
		at := fmt.Sprintf("%s[%d]", path, i)
		group, version, found := strings.Cut(o.APIVersion, "/")
		if !found {
			group, version = "", o.APIVersion
		}
		if version == "" || strings.Contains(version, "/") {
			f.add(at+".apiVersion", "%q has no version", o.APIVersion)
		}
		for _, field := range []struct{ name, value string }{{"kind", o.Kind}, {"name", o.Name}, {"uid", o.UID}} {
			if field.value == "" {
				f.add(at+"."+field.name, "is required")
			}
		}
		if group == "" && version == "v1" && o.Kind == "Event" {
			f.add(at+".kind", "an Event cannot own anything")
		}
		if o.Controller != nil && *o.Controller {
			controllers++
		}
	}
	if controllers > 1 {
		f.add(path, "has %d controllers: at most one", controllers)
	}
}
