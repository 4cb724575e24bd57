// Package bench measures the ingress beside nginx and haproxy: `go test -bench . ./examples/ingress/bench`, as root or not, on a
// machine of two processors at least that has nothing else to do.
package bench
