package apiserver

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/scheme"
)

func (c *call) groupResource() schema.GroupResource {
	return schema.GroupResource{Group: c.resource.Group, Resource: c.resource.Name}
}

// shown is an object as a version of its kind.
func (c *call) shown(object map[string]any) map[string]any {
	shallow := make(map[string]any, len(object))
	for k, v := range object {
		shallow[k] = v
	}
	shallow["apiVersion"], shallow["kind"] = c.resource.apiVersion(c.version), c.resource.Kind
	return shallow
}

// do serves what concerns one object.
func (s *Server) do(r *http.Request, c call, body []byte) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sent map[string]any
	if len(body) > 0 && r.Method != http.MethodDelete {
		var err error
		if sent, err = decode(r.Header.Get("Content-Type"), body); err != nil {
			return nil, err
		}
	}
	if r.Method == http.MethodPost {
		return s.create(c, sent)
	}
	at := key{c.resource, c.namespace, c.name}
	have := s.objects[at]
	if have == nil {
		return nil, apierrors.NewNotFound(c.groupResource(), c.name)
	}
	switch r.Method {
	case http.MethodGet:
	case http.MethodPut:
		return s.update(c, at, have, sent)
	case http.MethodPatch:
		next, _ := merge(runtime.DeepCopyJSON(have), runtime.DeepCopyJSON(sent)).(map[string]any)
		return s.update(c, at, have, next)
	case http.MethodDelete:
		s.remove(at)
	default:
		return nil, apierrors.NewMethodNotSupported(c.groupResource(), r.Method)
	}
	return c.shown(have), nil
}

// decode reads an object, or a merge patch. Clients send built-in kinds as protocol buffers too.
func decode(contentType string, body []byte) (map[string]any, error) {
	switch contentType {
	case "application/json", string(types.MergePatchType):
		var sent map[string]any
		if err := json.Unmarshal(body, &sent); err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return sent, nil
	case runtime.ContentTypeProtobuf:
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil)
		if err != nil {
			return nil, apierrors.NewBadRequest(err.Error())
		}
		return runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	}
	return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "", schema.GroupResource{}, "", contentType, 0, true)
}

func (s *Server) create(c call, sent map[string]any) (any, error) {
	u := unstructured.Unstructured{Object: sent}
	if u.GetName() == "" && u.GetGenerateName() != "" {
		u.SetName(u.GetGenerateName() + strings.ToLower(strconv.FormatUint(s.version, 36)))
	}
	if c.resource.Namespaced {
		u.SetNamespace(c.namespace)
	}
	if c.resource.Name == "namespaces" {
		if err := unstructured.SetNestedField(sent, u.GetName(), "metadata", "labels", corev1.LabelMetadataName); err != nil {
			return nil, err
		}
	}
	at := key{c.resource, u.GetNamespace(), u.GetName()}
	if s.objects[at] != nil {
		return nil, apierrors.NewAlreadyExists(c.groupResource(), at.name)
	}
	u.SetUID(uuid.NewUUID())
	u.SetGeneration(1)
	if err := unstructured.SetNestedField(sent, time.Now().UTC().Format(time.RFC3339), "metadata", "creationTimestamp"); err != nil {
		return nil, err
	}
	if c.resource.Status {
		delete(sent, "status")
	}
	if c.resource.Default != nil {
		c.resource.Default(sent)
	}
	s.put("ADDED", at, sent)
	return c.shown(sent), nil
}

// update replaces an object, or its status; what a client may not change stays.
func (s *Server) update(c call, at key, have, sent map[string]any) (any, error) {
	was, is := unstructured.Unstructured{Object: have}, unstructured.Unstructured{Object: sent}
	if v := is.GetResourceVersion(); v != "" && v != was.GetResourceVersion() {
		return nil, apierrors.NewConflict(c.groupResource(), at.name, fmt.Errorf("the object has been changed"))
	}
	next := runtime.DeepCopyJSON(sent)
	if c.sub == "status" {
		next = runtime.DeepCopyJSON(have)
		next["status"] = sent["status"]
	} else if c.resource.Status {
		delete(next, "status")
		if status, ok := have["status"]; ok {
			next["status"] = runtime.DeepCopyJSONValue(status)
		}
	}
	if c.resource.Default != nil {
		c.resource.Default(next)
	}
	u := unstructured.Unstructured{Object: next}
	u.SetUID(was.GetUID())
	u.SetNamespace(at.namespace)
	u.SetName(at.name)
	u.SetResourceVersion(was.GetResourceVersion())
	u.SetGeneration(was.GetGeneration())
	if err := unstructured.SetNestedField(next, have["metadata"].(map[string]any)["creationTimestamp"], "metadata", "creationTimestamp"); err != nil {
		return nil, err
	}
	if reflect.DeepEqual(c.shown(next), c.shown(have)) {
		return c.shown(have), nil
	}
	if !reflect.DeepEqual(spec(next), spec(have)) {
		u.SetGeneration(was.GetGeneration() + 1)
	}
	s.put("MODIFIED", at, next)
	return c.shown(next), nil
}

// spec is what a generation counts the changes of.
func spec(object map[string]any) map[string]any {
	rest := map[string]any{}
	for k, v := range object {
		if k != "metadata" && k != "status" && k != "apiVersion" && k != "kind" {
			rest[k] = v
		}
	}
	return rest
}

func (s *Server) put(kind string, at key, object map[string]any) {
	s.version++
	(&unstructured.Unstructured{Object: object}).SetResourceVersion(strconv.FormatUint(s.version, 10))
	s.objects[at] = object
	s.events = append(s.events, event{kind, at, object})
	s.changed.Broadcast()
}

// remove deletes an object, and a namespace with all that is in it.
func (s *Server) remove(at key) {
	object := runtime.DeepCopyJSON(s.objects[at])
	delete(s.objects, at)
	s.version++
	(&unstructured.Unstructured{Object: object}).SetResourceVersion(strconv.FormatUint(s.version, 10))
	s.events = append(s.events, event{"DELETED", at, object})
	s.changed.Broadcast()
	if at.resource.Name != "namespaces" {
		return
	}
	for other := range s.objects {
		if other.namespace == at.name {
			s.remove(other)
		}
	}
}

// merge is RFC 7396.
func merge(to, patch any) any {
	changes, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := to.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for k, v := range changes {
		if v == nil {
			delete(object, k)
		} else {
			object[k] = merge(object[k], v)
		}
	}
	return object
}

// list returns what there is of a kind.
func (s *Server) list(c call, query url.Values) (any, error) {
	wanted, err := c.selector(query)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	items := []any{}
	for _, at := range s.sorted(c.resource) {
		if object := s.objects[at]; wanted(at, object) {
			items = append(items, c.shown(object))
		}
	}
	return map[string]any{
		"apiVersion": c.resource.apiVersion(c.version), "kind": c.resource.Kind + "List", "items": items,
		"metadata": map[string]any{"resourceVersion": strconv.FormatUint(s.version, 10)},
	}, nil
}

func (s *Server) sorted(of *Resource) []key {
	var all []key
	for at := range s.objects {
		if at.resource == of {
			all = append(all, at)
		}
	}
	slices.SortFunc(all, func(a, b key) int { return cmp.Or(cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name)) })
	return all
}

// selector says which objects are asked for.
func (c *call) selector(query url.Values) (func(key, map[string]any) bool, error) {
	byLabel, err := labels.Parse(query.Get("labelSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	byField, err := fields.ParseSelector(query.Get("fieldSelector"))
	if err != nil {
		return nil, apierrors.NewBadRequest(err.Error())
	}
	return func(at key, object map[string]any) bool {
		return at.resource == c.resource && (c.namespace == "" || at.namespace == c.namespace) &&
			byField.Matches(fields.Set{"metadata.name": at.name, "metadata.namespace": at.namespace}) &&
			byLabel.Matches(labels.Set((&unstructured.Unstructured{Object: object}).GetLabels()))
	}, nil
}
