// Package identity gives workloads their X.509 identities (SPIFFE X509-SVIDs).
//
// An Issuer signs them and publishes the roots that they are verified against.
// CA is one: a small certificate authority with ECDSA P-256 keys that keeps its
// state in a file. Anything else that can do both, such as SPIRE behind its
// Workload API, takes its place.
//
// A root is replaced without a moment in which somebody trusts too little: the
// new one is published first, signs a while later, and the old one is
// published until all that it has signed has expired. Several processes may
// use one file: each follows what the others do, and whoever comes first takes
// the next step.
package identity
