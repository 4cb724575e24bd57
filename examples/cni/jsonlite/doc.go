// Package jsonlite reads and writes JSON as encoding/json does, for a process that reads and writes each type once. encoding/json looks
// through every type that a value might hold before it begins, which pays off the second time; here that would be a fifth of all that a
// command costs.
//
// It knows what the configuration and the records are made of: structs, slices, pointers, maps with strings as keys, strings, whole
// numbers, booleans, and types that are text by themselves.
package jsonlite
