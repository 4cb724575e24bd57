// Package source delivers Kubernetes objects and their changes, from a
// directory of manifests that is watched or from an API server.
//
// Both deliver the same: first everything there is, in one batch, then changes
// as they come. So whoever reads knows when it has the whole state, and need not
// know where it comes from. What is delivered is shared and must not be changed.
//
// A directory may hold YAML and JSON files, also in folders below it, with
// several documents and lists in a file. Files that are replaced, symbolic links
// that are swapped (as mounted ConfigMaps are) and files that are being written
// are handled: a file that cannot be read counts with what it held before, an
// object with a fault stays as it was beside the others of its file, and the
// faults are reported. Kinds that nobody asked for are passed over.
package source
