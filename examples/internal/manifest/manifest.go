package manifest

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// Set holds the objects of a directory in the order in which they were read, with the API server's defaults filled in
// for the fields that the examples use.
type Set struct {
	Namespaces  []corev1.Namespace
	Nodes       []corev1.Node
	Pods        []corev1.Pod
	Deployments []appsv1.Deployment
	Services    []corev1.Service

	NetworkPolicies        []networkingv1.NetworkPolicy
	ClusterNetworkPolicies []policyv1alpha2.ClusterNetworkPolicy

	// Warnings names what was read but is not run, in the order of reading.
	Warnings []string

	sources map[string]Source
}

// Source says where an object stands.
type Source struct {
	File     string // slash-separated, relative to the directory that was read
	Document int    // counted from 1, documents that hold only comments are not counted
	Line     int    // first line of the document in the file
	Item     string // place within a List, such as items[2]
}

func (s Source) String() string {
	text := fmt.Sprintf("%s: document %d (line %d)", s.File, s.Document, s.Line)
	if s.Item != "" {
		text += ": " + s.Item
	}
	return text
}

// Error is one fault of one object.
type Error struct {
	Source Source
	Object string // such as "Pod default/web"; empty when not even that could be read
	Field  string // such as "spec.containers[0].ports[1].containerPort"; empty when the fault is the whole object's
	Err    error
}

func (e *Error) Error() string {
	var parts []string
	if e.Source != (Source{}) { // zero for what no document declares, such as a node that was made up
		parts = append(parts, e.Source.String())
	}
	for _, part := range []string{e.Object, e.Field} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	return strings.Join(parts, ": ") + ": " + e.Err.Error()
}

func (e *Error) Unwrap() error { return e.Err }

// Fault returns an [Error] about a field of an object of the set, for checks that need more than the object itself.
func (s *Set) Fault(obj metav1.Object, field, format string, args ...any) error {
	name := describe(obj)
	return &Error{Source: s.sources[name], Object: name, Field: field, Err: fmt.Errorf(format, args...)}
}

// describe names an object the way that errors do. Nodes and Namespaces have no namespace of their own.
func describe(obj metav1.Object) string {
	kind := ""
	switch obj.(type) {
	case *corev1.Namespace:
		kind = "Namespace"
	case *corev1.Node:
		kind = "Node"
	case *corev1.Pod:
		kind = "Pod"
	case *appsv1.Deployment:
		kind = "Deployment"
	case *corev1.Service:
		kind = "Service"
	case *networkingv1.NetworkPolicy:
		kind = "NetworkPolicy"
	case *policyv1alpha2.ClusterNetworkPolicy:
		kind = "ClusterNetworkPolicy"
	}
	if obj.GetName() == "" {
		return kind
	}
	if namespace := obj.GetNamespace(); namespace != "" {
		return kind + " " + namespace + "/" + obj.GetName()
	}
	return kind + " " + obj.GetName()
}

// Read reads every .yaml, .yml and .json file below root in sorted order. root may also be a single file, whatever its
// name. The error joins every fault of every object; the Set is empty then.
func Read(fsys fs.FS, root string) (Set, error) {
	files, err := list(fsys, root)
	if err != nil {
		return Set{}, err
	}
	set := Set{sources: map[string]Source{}}
	var faults []error
	for _, file := range files {
		data, err := fs.ReadFile(fsys, file)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		for _, doc := range split(file, data) {
			faults = append(faults, set.add(doc)...)
		}
	}
	if len(files) == 0 {
		faults = append(faults, fmt.Errorf("%s: no .yaml, .yml or .json file", root))
	}
	if err := errors.Join(faults...); err != nil {
		return Set{}, err
	}
	set.warnUndeclaredNamespaces()
	return set, nil
}

// Add puts the objects of another set behind those of s.
func (s *Set) Add(other Set) {
	s.Namespaces = append(s.Namespaces, other.Namespaces...)
	s.Nodes = append(s.Nodes, other.Nodes...)
	s.Pods = append(s.Pods, other.Pods...)
	s.Deployments = append(s.Deployments, other.Deployments...)
	s.Services = append(s.Services, other.Services...)
	s.NetworkPolicies = append(s.NetworkPolicies, other.NetworkPolicies...)
	s.ClusterNetworkPolicies = append(s.ClusterNetworkPolicies, other.ClusterNetworkPolicies...)
	s.Warnings = append(s.Warnings, other.Warnings...)
	for name, source := range other.sources {
		if _, ok := s.sources[name]; !ok {
			s.sources[name] = source
		}
	}
}

func list(fsys fs.FS, root string) ([]string, error) {
	info, err := fs.Stat(fsys, root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{root}, nil
	}
	var files []string
	err = fs.WalkDir(fsys, root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() || !slices.Contains([]string{".yaml", ".yml", ".json"}, strings.ToLower(path.Ext(name))) {
			return nil
		}
		// A link to a directory is not followed: it could lead back up.
		if info, err := fs.Stat(fsys, name); err != nil || info.IsDir() {
			return err
		}
		files = append(files, name)
		return nil
	})
	return files, err // WalkDir goes in lexical order
}

// warnUndeclaredNamespaces reports namespaces that an API server would not know. They need nothing here, so they are used.
func (s *Set) warnUndeclaredNamespaces() {
	known := map[string]bool{"default": true, "kube-system": true, "kube-public": true, "kube-node-lease": true}
	for _, ns := range s.Namespaces {
		known[ns.Name] = true
	}
	warn := func(obj metav1.Object) {
		if namespace := obj.GetNamespace(); !known[namespace] {
			known[namespace] = true
			s.Warnings = append(s.Warnings, fmt.Sprintf("%s: %s: no document declares the namespace %q; it is assumed to exist",
				s.sources[describe(obj)], describe(obj), namespace))
		}
	}
	for i := range s.Pods {
		warn(&s.Pods[i])
	}
	for i := range s.Deployments {
		warn(&s.Deployments[i])
	}
	for i := range s.Services {
		warn(&s.Services[i])
	}
	for i := range s.NetworkPolicies {
		warn(&s.NetworkPolicies[i])
	}
}
