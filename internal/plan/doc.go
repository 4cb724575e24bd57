// Package plan is the keyed diff and the printer behind every Plan of podplumb.
//
// A driver describes its state as values that each have a key (a name, a prefix, an address and port). Diff pairs what the kernel
// has with what is wanted by that key and leaves out what is equal. Format prints the outcome one change a line: "+" added,
// "~" changed, "-" removed. The package is pure: it owns nothing and touches nothing.
package plan
