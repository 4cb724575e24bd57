// Package route says which backend a request belongs to.
//
// A Table is immutable; it is made anew from all objects when one changes, and
// looked up with a few map accesses whatever its size. Rules come from Ingress
// objects (networking.k8s.io/v1).
//
// The most specific rule wins, in the order of the Gateway API: the host as it
// is, then the longest wildcard, then any host; the exact path, then patterns
// with more letters, then the longest prefix; then the older object, then the
// first by name.
package route
