// Package workloadapi serves the SPIFFE Workload API over Unix sockets: X.509
// identities and the roots to verify others' with, as streams that bring what
// is new as soon as it is.
//
// Whoever calls is told its own identity and no other. Who that is, an
// Attestor says: by the socket that the call came in by, which only one pod
// has, or by the network namespace of the process that called.
//
// JWT-SVIDs are not issued. (SPIFFE Workload API, github.com/spiffe/spiffe,
// standards/SPIFFE_Workload_API.md.)
package workloadapi
