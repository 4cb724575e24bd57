package manifest

import "encoding/json"

// Document is one object of a file that has not been decoded yet.
type Document struct {
	Source Source
	JSON   json.RawMessage
	Err    error // why it is neither YAML nor JSON; it has no JSON then
}

// Documents cuts a file into its documents, YAML or, by the name, JSON. Documents that hold only comments are left out. It
// is for those who have types of their own; [Read] decodes and checks.
func Documents(file string, data []byte) []Document {
	var list []Document
	for _, d := range split(file, data) {
		list = append(list, Document{Source: d.source, JSON: d.json, Err: d.err})
	}
	return list
}
