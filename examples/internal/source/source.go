package source

import (
	"cmp"
	"context"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Kind is a sort of objects to deliver.
type Kind struct {
	Object     runtime.Object // an empty one, of a type that the Scheme knows
	Resource   string         // the plural of its name in the API, such as services
	Namespaced bool

	// Optional is a kind that an API server need not have, such as one of a CustomResourceDefinition. It is delivered from the
	// time on at which the server has it.
	Optional bool
}

// Change is one object that came, changed or went.
type Change struct {
	Old, New runtime.Object // Old is nil for one that came, New for one that went
}

// Receiver takes the batches, one after the other.
type Receiver struct {
	// Changed is called with the first batch when everything is known, and then with every change.
	Changed func([]Change)

	// Fault is told what goes wrong while running; what was delivered stays true. It may be called from another goroutine than Changed.
	Fault func(error)
}

// Source is where objects come from.
type Source interface {
	// Run delivers until ctx ends, and then returns nil. It returns an error only if it cannot begin.
	Run(ctx context.Context, scheme *runtime.Scheme, kinds []Kind, to Receiver) error
}

// id names an object among all.
type id struct {
	kind            schema.GroupKind
	namespace, name string
}

func (i id) String() string {
	if i.namespace == "" {
		return i.kind.Kind + " " + i.name
	}
	return i.kind.Kind + " " + i.namespace + "/" + i.name
}

func compareIDs(a, b id) int {
	return cmp.Or(cmp.Compare(a.kind.String(), b.kind.String()), cmp.Compare(a.namespace, b.namespace), cmp.Compare(a.name, b.name))
}

// difference lists what changed between two states, in order.
func difference(have, want map[id]runtime.Object) []Change {
	ids := map[id]bool{}
	for i := range have {
		ids[i] = true
	}
	for i := range want {
		ids[i] = true
	}
	var sorted []id
	for i := range ids {
		sorted = append(sorted, i)
	}
	slices.SortFunc(sorted, compareIDs)
	var changes []Change
	for _, i := range sorted {
		a, b := have[i], want[i]
		if a != nil && b != nil && equality.Semantic.DeepEqual(a, b) {
			continue
		}
		changes = append(changes, Change{a, b})
	}
	return changes
}

// kinds is an index of what is asked for.
type kinds map[schema.GroupVersionKind]Kind

func indexKinds(scheme *runtime.Scheme, list []Kind) (kinds, error) {
	all := kinds{}
	for _, k := range list {
		known, _, err := scheme.ObjectKinds(k.Object)
		if err != nil {
			return nil, err
		}
		all[known[0]] = k
	}
	return all, nil
}

func (k kinds) id(object runtime.Object, gvk schema.GroupVersionKind) (id, error) {
	about, err := meta.Accessor(object)
	if err != nil {
		return id{}, err
	}
	if !k[gvk].Namespaced {
		about.SetNamespace("")
	} else if about.GetNamespace() == "" {
		about.SetNamespace("default")
	}
	return id{gvk.GroupKind(), about.GetNamespace(), about.GetName()}, nil
}
