// Package manifest reads directories of Kubernetes manifests: YAML and JSON, several documents in a file, List objects.
//
// It knows the kinds that the examples run (Namespace, Node, Pod, Deployment, Service), decodes them into the types of
// k8s.io/api as strictly as an API server with field validation does, and checks the fields that the examples use.
// A malformed object is an error that names the file, the document and the field, and every fault is reported at once.
// A kind that it does not know is a warning.
package manifest
