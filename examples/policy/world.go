package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/internal/manifest"
	"github.com/podplumb/podplumb/policy"
)

// world is what manifests describe, with an address for everybody.
type world struct {
	layout layout.Cluster
	state  policy.State
}

// read reads a directory or file of manifests, or what is shipped.
func read(path string) (manifest.Set, error) {
	if path == "" {
		return manifest.Read(shipped, "manifests")
	}
	dir, file := filepath.Split(filepath.Clean(path))
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		dir, file = path, "."
	}
	set, err := manifest.Read(os.DirFS(filepath.Clean("./"+dir)), file)
	if filepath.IsAbs(path) {
		set, err = manifest.Read(os.DirFS(dir), file)
	}
	if err != nil {
		return set, fmt.Errorf("%s:\n%w", path, err)
	}
	return set, nil
}

// arrange gives everything that a set leaves open an answer.
func arrange(set manifest.Set) (*world, error) {
	const nodes = 2 // when no document declares any
	l, err := layout.Arrange(set, nodes)
	if err != nil {
		return nil, err
	}
	w := &world{layout: l}
	w.state, err = l.Policies()
	return w, err
}

func load(path string) (*world, error) {
	set, err := read(path)
	if err != nil {
		return nil, err
	}
	return arrange(set)
}

// outside is who is neither pod nor node.
const outside = "outside"

// addrs finds somebody by name: a pod as NAME or NAMESPACE/NAME, a node, "outside", or an address.
func (w *world) addrs(name string) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if name == outside {
		return outsideAddrs, nil
	}
	var known []string
	for i := range w.layout.Pods {
		p := &w.layout.Pods[i]
		if p.Name() == name || p.Object.Namespace+"/"+p.Object.Name == name {
			return p.Addrs, nil
		}
		known = append(known, p.Name())
	}
	for i := range w.layout.Nodes {
		if w.layout.Nodes[i].Name() == name {
			return w.layout.Nodes[i].Addrs, nil
		}
		known = append(known, w.layout.Nodes[i].Name())
	}
	slices.Sort(known)
	return nil, fmt.Errorf("there is no %q: %s, %s, or an address", name, strings.Join(known, ", "), outside)
}

// port finds a port of a receiver: a number or a name that its pod has, with a protocol in front of it or without: "5432", "sql",
// "UDP/53".
func (w *world) port(receiver, text string) (policy.Protocol, uint16, error) {
	proto, rest, found := strings.Cut(text, "/")
	if !found {
		proto, rest = "", text
	}
	proto = strings.ToUpper(proto)
	if proto != "" && !slices.Contains([]string{"TCP", "UDP", "SCTP"}, proto) {
		return "", 0, fmt.Errorf("%q is none of TCP, UDP, SCTP", proto)
	}
	var n uint16
	if _, err := fmt.Sscanf(rest+" ", "%d ", &n); err == nil && n > 0 && fmt.Sprint(n) == rest {
		if proto == "" {
			proto = "TCP"
		}
		return policy.Protocol(proto), n, nil
	}
	for _, p := range w.layout.Pods {
		if p.Name() != receiver && p.Object.Namespace+"/"+p.Object.Name != receiver {
			continue
		}
		for _, c := range p.Object.Spec.Containers {
			for _, port := range c.Ports {
				if port.Name == rest && (proto == "" || string(port.Protocol) == proto) {
					return policy.Protocol(port.Protocol), uint16(port.ContainerPort), nil
				}
			}
		}
	}
	return "", 0, fmt.Errorf("%s has no port %q", receiver, text)
}
