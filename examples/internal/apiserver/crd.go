package apiserver

import (
	"encoding/json"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// definition is what counts of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group, Scope string
		Names        struct{ Plural, Kind string }
		Versions     []struct {
			Name         string
			Served       bool
			Schema       struct{ OpenAPIV3Schema *shape }
			Subresources struct{ Status *struct{} }
		}
	}
}

// shape is what says the defaults.
type shape struct {
	Default              any
	Properties           map[string]*shape
	Items                *shape
	AdditionalProperties json.RawMessage // a schema or a boolean
}

// AddDefinition adds the kind of a CustomResourceDefinition, in YAML, with its defaults, and the definition itself.
func (s *Server) AddDefinition(text []byte) error {
	var d definition
	var object map[string]any
	if err := yaml.Unmarshal(text, &d); err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, &object); err != nil {
		return err
	}
	r := Resource{Group: d.Spec.Group, Name: d.Spec.Names.Plural, Kind: d.Spec.Names.Kind, Namespaced: d.Spec.Scope == "Namespaced"}
	for _, v := range d.Spec.Versions {
		if !v.Served {
			continue
		}
		r.Versions = append(r.Versions, v.Name)
		r.Status = r.Status || v.Subresources.Status != nil
		if r.Default == nil && v.Schema.OpenAPIV3Schema != nil {
			r.Default = func(object map[string]any) { v.Schema.OpenAPIV3Schema.apply(object) }
		}
	}
	s.Add(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, of := range s.resources {
		if of.Name == "customresourcedefinitions" {
			if _, err := s.create(call{resource: of, version: "v1"}, object); err != nil {
				return err
			}
		}
	}
	return nil
}

// apply adds the defaults of what is missing, from the outside in.
func (d *shape) apply(value any) {
	switch v := value.(type) {
	case map[string]any:
		for name, property := range d.Properties {
			if v[name] == nil && property.Default != nil {
				v[name] = runtime.DeepCopyJSONValue(property.Default)
			}
			if v[name] != nil {
				property.apply(v[name])
			}
		}
		var others shape
		if len(d.AdditionalProperties) > 0 && json.Unmarshal(d.AdditionalProperties, &others) == nil {
			for name := range v {
				if d.Properties[name] == nil {
					others.apply(v[name])
				}
			}
		}
	case []any:
		if d.Items != nil {
			for _, item := range v {
				d.Items.apply(item)
			}
		}
	}
}
