package service

import (
	"encoding/json"
	"time"
)

// Name identifies an object that lives in a namespace.
type Name struct {
	Namespace string
	Name      string
}

// String returns "namespace/name".
func (n Name) String() string { return n.Namespace + "/" + n.Name }

// compare orders names by namespace, then by name.
func (n Name) compare(o Name) int {
	if n.Namespace != o.Namespace {
		if n.Namespace < o.Namespace {
			return -1
		}
		return 1
	}
	if n.Name != o.Name {
		if n.Name < o.Name {
			return -1
		}
		return 1
	}
	return 0
}

// Meta is the metadata of an object, with the JSON of Kubernetes' ObjectMeta. Names, labels, annotations and the deletion time mean something to this
// package; the rest is carried so that an object survives being read and written.
type Meta struct {
	Name                       string            `json:"name,omitempty"`
	GenerateName               string            `json:"generateName,omitempty"`
	Namespace                  string            `json:"namespace,omitempty"`
	SelfLink                   string            `json:"selfLink,omitempty"`
	UID                        string            `json:"uid,omitempty"`
	ResourceVersion            string            `json:"resourceVersion,omitempty"`
	Generation                 int64             `json:"generation,omitempty"`
	CreationTimestamp          time.Time         `json:"creationTimestamp,omitzero"`
	DeletionTimestamp          *time.Time        `json:"deletionTimestamp,omitempty"` // set: the object is terminating
	DeletionGracePeriodSeconds *int64            `json:"deletionGracePeriodSeconds,omitempty"`
	Labels                     map[string]string `json:"labels,omitempty"`
	Annotations                map[string]string `json:"annotations,omitempty"`
	OwnerReferences            []OwnerReference  `json:"ownerReferences,omitempty"`
	Finalizers                 []string          `json:"finalizers,omitempty"`
	ManagedFields              []ManagedFields   `json:"managedFields,omitempty"`
}

// Key returns the object's namespace and name.
func (m Meta) Key() Name { return Name{Namespace: m.Namespace, Name: m.Name} }

// OwnerReference names an object that this one goes away with.
type OwnerReference struct {
	APIVersion         string `json:"apiVersion"`
	Kind               string `json:"kind"`
	Name               string `json:"name"`
	UID                string `json:"uid"`
	Controller         *bool  `json:"controller,omitempty"`
	BlockOwnerDeletion *bool  `json:"blockOwnerDeletion,omitempty"`
}

// ManagedFields says who wrote which fields (server-side apply).
type ManagedFields struct {
	Manager     string           `json:"manager,omitempty"`
	Operation   string           `json:"operation,omitempty"`
	APIVersion  string           `json:"apiVersion,omitempty"`
	Time        *time.Time       `json:"time,omitempty"`
	FieldsType  string           `json:"fieldsType,omitempty"`
	FieldsV1    *json.RawMessage `json:"fieldsV1,omitempty"`
	Subresource string           `json:"subresource,omitempty"`
}

// Condition is one observation about a Service, with the JSON of Kubernetes' metav1.Condition.
type Condition struct {
	Type               string     `json:"type"`
	Status             string     `json:"status"`
	ObservedGeneration int64      `json:"observedGeneration,omitempty"`
	LastTransitionTime *time.Time `json:"lastTransitionTime"`
	Reason             string     `json:"reason"`
	Message            string     `json:"message"`
}

// ObjectReference points at another object, such as the Pod behind an endpoint.
type ObjectReference struct {
	Kind            string `json:"kind,omitempty"`
	Namespace       string `json:"namespace,omitempty"`
	Name            string `json:"name,omitempty"`
	UID             string `json:"uid,omitempty"`
	APIVersion      string `json:"apiVersion,omitempty"`
	ResourceVersion string `json:"resourceVersion,omitempty"`
	FieldPath       string `json:"fieldPath,omitempty"`
}
