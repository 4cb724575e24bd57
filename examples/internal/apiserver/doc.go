// Package apiserver is as much of a Kubernetes API server as tests of
// controllers need: an http.Handler that keeps objects in memory.
//
// It has discovery, get, list with label and field selectors, watch (also with
// initial events), create, update, merge patch, delete, the status
// subresource, resource versions with conflicts, generations, the logs of pods,
// and the defaults of CustomResourceDefinitions. It has no admission, no
// validation, no access control, no finalizers and no controllers.
package apiserver
