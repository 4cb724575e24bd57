// Package compat holds the tests that keep podplumb's own JSON types the same as those of the real Kubernetes API packages: field by field, by random
// objects there and back, and by fuzzing. It is a module of its own so that the root module never needs k8s.io.
package compat
