package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	sigsjson "sigs.k8s.io/json"
	policyv1alpha2 "sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// add decodes one document into the set and returns its faults.
func (s *Set) add(doc document) []error {
	fault := func(field string, err error) []error {
		return []error{&Error{Source: doc.source, Field: field, Err: err}}
	}
	if doc.err != nil {
		return fault("", doc.err)
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(doc.json, &fields); err != nil || fields == nil {
		return fault("", errors.New("not an object with apiVersion and kind"))
	}
	version, err := stringField(fields, "apiVersion")
	if err != nil {
		return fault("apiVersion", err)
	}
	kind, err := stringField(fields, "kind")
	if err != nil {
		return fault("kind", err)
	}
	switch version + " " + kind {
	case "v1 List", "v1 NamespaceList", "v1 NodeList", "v1 PodList", "v1 ServiceList", "apps/v1 DeploymentList",
		"networking.k8s.io/v1 NetworkPolicyList", "policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicyList":
		return s.addList(doc, fields, version, strings.TrimSuffix(kind, "List"))
	case "v1 Namespace":
		return add(s, doc, &s.Namespaces, checkNamespace)
	case "v1 Node":
		return add(s, doc, &s.Nodes, checkNode)
	case "v1 Pod":
		return add(s, doc, &s.Pods, checkPod)
	case "apps/v1 Deployment":
		return add(s, doc, &s.Deployments, checkDeployment)
	case "v1 Service":
		return add(s, doc, &s.Services, checkService)
	case "networking.k8s.io/v1 NetworkPolicy":
		return add(s, doc, &s.NetworkPolicies, checkNetworkPolicy)
	case "policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy":
		return add(s, doc, &s.ClusterNetworkPolicies, checkClusterNetworkPolicy)
	}
	var meta struct{ Metadata metav1.ObjectMeta }
	name := ""
	if json.Unmarshal(doc.json, &meta) == nil && meta.Metadata.Name != "" {
		name = " " + meta.Metadata.Name
	}
	s.Warnings = append(s.Warnings, fmt.Sprintf("%s: %s %s%s: this kind is not run here and was passed over", doc.source, version, kind, name))
	return nil
}

func stringField(fields map[string]json.RawMessage, name string) (string, error) {
	raw, ok := fields[name]
	if !ok {
		return "", errors.New("required")
	}
	var value string
	if err := json.Unmarshal(raw, &value); err != nil {
		return "", fmt.Errorf("must be a string, not %s", raw)
	}
	if value == "" {
		return "", errors.New("required")
	}
	return value, nil
}

// addList adds the items of a List. The items of a typed list, such as PodList, may leave out their own kind.
func (s *Set) addList(doc document, fields map[string]json.RawMessage, version, kind string) []error {
	var items []json.RawMessage
	if raw, ok := fields["items"]; ok {
		if err := json.Unmarshal(raw, &items); err != nil {
			return []error{&Error{Source: doc.source, Field: "items", Err: errors.New("must be a list of objects")}}
		}
	}
	var faults []error
	for i, raw := range items {
		item := document{source: doc.source, json: raw}
		if item.source.Item != "" {
			item.source.Item += "."
		}
		item.source.Item += fmt.Sprintf("items[%d]", i)
		var fields map[string]json.RawMessage
		if kind != "" && json.Unmarshal(raw, &fields) == nil && fields != nil && fields["kind"] == nil {
			fields["kind"], _ = json.Marshal(kind)
			fields["apiVersion"], _ = json.Marshal(version)
			item.json, _ = json.Marshal(fields)
		}
		faults = append(faults, s.add(item)...)
	}
	return faults
}

// object is satisfied by pointers to the kinds that the set holds.
type object[T any] interface {
	*T
	metav1.Object
}

// add decodes doc as a T, checks it and appends it to list.
func add[T any, P object[T]](s *Set, doc document, list *[]T, check func(P, *checker)) []error {
	value := new(T)
	obj := P(value)
	c := &checker{source: doc.source}
	strict, err := sigsjson.UnmarshalStrict(doc.json, value)
	if obj.GetNamespace() == "" && namespaced(obj) {
		obj.SetNamespace(metav1.NamespaceDefault)
	}
	c.object = describe(obj)
	for _, err := range strict {
		c.strict(err)
	}
	if err != nil {
		// The decoder stops at the first fault and leaves out list indexes: look for all of them.
		misfits(doc.json, reflect.TypeFor[T](), "", c)
		if len(c.faults) == 0 {
			c.add("", "%w", err)
		}
		return c.faults
	}
	c.meta(obj)
	check(obj, c)
	if first, ok := s.sources[c.object]; ok {
		c.add("metadata.name", "already used in %s", first)
	} else {
		s.sources[c.object] = doc.source
	}
	if len(c.faults) == 0 {
		*list = append(*list, *value)
		s.Warnings = append(s.Warnings, c.warnings...)
	}
	return c.faults
}

func namespaced(obj metav1.Object) bool {
	switch obj.(type) {
	case *corev1.Namespace, *corev1.Node, *policyv1alpha2.ClusterNetworkPolicy:
		return false
	}
	return true
}

// misfits walks JSON and the Go type that it should fit side by side and reports each value that does not fit.
func misfits(raw json.RawMessage, typ reflect.Type, path string, c *checker) {
	err := json.Unmarshal(raw, reflect.New(typ).Interface())
	if err == nil {
		return
	}
	before := len(c.faults)
	switch {
	case reflect.PointerTo(typ).Implements(reflect.TypeFor[json.Unmarshaler]()):
		// Quantities, times, int-or-string: a leaf.
	case typ.Kind() == reflect.Pointer:
		misfits(raw, typ.Elem(), path, c)
	case typ.Kind() == reflect.Struct:
		var fields map[string]json.RawMessage
		if json.Unmarshal(raw, &fields) == nil {
			misfitsOfStruct(fields, typ, path, c)
		}
	case typ.Kind() == reflect.Map:
		var entries map[string]json.RawMessage
		if json.Unmarshal(raw, &entries) == nil {
			for _, key := range sortedKeys(entries) {
				misfits(entries[key], typ.Elem(), fmt.Sprintf("%s[%q]", path, key), c)
			}
		}
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() != reflect.Uint8:
		var items []json.RawMessage
		if json.Unmarshal(raw, &items) == nil {
			for i, item := range items {
				misfits(item, typ.Elem(), fmt.Sprintf("%s[%d]", path, i), c)
			}
		}
	}
	if len(c.faults) == before {
		c.add(path, "%s", misfit(raw, err))
	}
}

func misfitsOfStruct(fields map[string]json.RawMessage, typ reflect.Type, path string, c *checker) {
	for i := range typ.NumField() {
		field := typ.Field(i)
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" && field.Anonymous {
			misfitsOfStruct(fields, field.Type, path, c)
			continue
		}
		if raw, ok := fields[name]; ok {
			misfits(raw, field.Type, strings.TrimPrefix(path+"."+name, "."), c)
		}
	}
}

// misfit words a decoding error for people who do not know the Go type.
func misfit(raw json.RawMessage, err error) string {
	var mismatch *json.UnmarshalTypeError
	if !errors.As(err, &mismatch) {
		return fmt.Sprintf("%s: %v", shorten(raw), err)
	}
	want := "an object"
	switch fits := mismatch.Type; fits.Kind() {
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Int32, reflect.Int64, reflect.Int:
		want = "a whole number of " + fmt.Sprint(fits.Bits()) + " bits"
	case reflect.Slice:
		want = "a list"
	}
	return fmt.Sprintf("must be %s, not %s", want, shorten(raw))
}

func shorten(raw json.RawMessage) string {
	const longest = 60
	if len(raw) > longest {
		return string(raw[:longest]) + "..."
	}
	return string(raw)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
