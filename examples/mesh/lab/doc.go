// Package lab builds a small cluster network for the mesh's demo, tests and
// benchmarks: nodes joined by a switch, with pods behind a bridge on each, in
// network namespaces, for IPv4 and IPv6.
package lab
