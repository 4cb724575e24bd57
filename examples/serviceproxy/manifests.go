package main

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/podplumb/podplumb/examples/internal/manifest"
	"github.com/podplumb/podplumb/service"
)

// object is what a manifest declares, under its kind and name.
type object struct {
	kind string
	name service.Name
}

func (o object) String() string {
	if o.name.Namespace == "" {
		return o.kind + " " + o.name.Name
	}
	return o.kind + " " + o.name.String()
}

// content is the objects of one file.
type content struct {
	objects map[object]any // *service.Service and so on
	broken  map[object]bool
	faults  []error
	whole   bool // everything in it could be read as YAML or JSON
}

// readManifest decodes a file. Kinds that a proxy has no use for are passed over.
func readManifest(file string, data []byte) content {
	c := content{objects: map[object]any{}, broken: map[object]bool{}, whole: true}
	for _, doc := range manifest.Documents(file, data) {
		if doc.Err != nil {
			c.whole = false
			c.faults = append(c.faults, fmt.Errorf("%s: %w", doc.Source, doc.Err))
			continue
		}
		c.add(doc.Source, doc.JSON)
	}
	return c
}

func (c *content) add(source manifest.Source, raw json.RawMessage) {
	fault := func(err error) { c.faults = append(c.faults, fmt.Errorf("%s: %w", source, err)) }
	var head struct {
		Kind     string            `json:"kind"`
		Items    []json.RawMessage `json:"items"`
		Metadata struct {
			Name      string `json:"name"`
			Namespace string `json:"namespace"`
		} `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		fault(errors.New("not an object with a kind"))
		return
	}
	var key object
	var value any
	var err error
	switch head.Kind {
	case "List", "ServiceList", "EndpointSliceList", "PodList", "NodeList":
		for i, item := range head.Items {
			at := source
			at.Item = fmt.Sprintf("items[%d]", i)
			c.add(at, item)
		}
		return
	case "Service":
		key, value, err = decode(raw, true, func(s *service.Service) *service.Meta { return &s.Meta })
	case "EndpointSlice":
		key, value, err = decode(raw, true, func(s *service.EndpointSlice) *service.Meta { return &s.Meta })
	case "Pod":
		key, value, err = decode(raw, true, func(p *service.Pod) *service.Meta { return &p.Meta })
	case "Node":
		key, value, err = decode(raw, false, func(n *service.Node) *service.Meta { return &n.Meta })
	default:
		return
	}
	key.kind = head.Kind
	switch _, twice := c.objects[key]; {
	case err != nil:
		key.name = service.Name{Namespace: head.Metadata.Namespace, Name: head.Metadata.Name}
		if key.name.Namespace == "" && head.Kind != "Node" {
			key.name.Namespace = "default"
		}
		c.broken[key] = true
		fault(fmt.Errorf("%s: %w", key, err))
	case key.name.Name == "":
		fault(fmt.Errorf("%s: metadata.name: required", head.Kind))
	case twice:
		fault(fmt.Errorf("%s: is there twice; the first counts", key))
	default:
		c.objects[key] = value
	}
}

func decode[T any](raw json.RawMessage, namespaced bool, meta func(*T) *service.Meta) (object, any, error) {
	value := new(T)
	if err := json.Unmarshal(raw, value); err != nil {
		return object{}, nil, err
	}
	m := meta(value)
	if namespaced && m.Namespace == "" {
		m.Namespace = "default"
	}
	return object{name: m.Key()}, value, nil
}
