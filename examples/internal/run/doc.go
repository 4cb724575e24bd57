// Package run keeps the traces of one run of an example together, so that all of them are found again: by the run itself
// when it ends, and by the next one when it was killed and could not clean up.
//
// What a run leaves in the kernel are named network namespaces with a common prefix (links, routes and rules live and die
// with them) and processes that carry an environment variable. Nothing is remembered in a file that could be wrong: removal
// looks at the machine.
package run
