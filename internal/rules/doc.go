// Package rules holds the tests of the architecture: what may import what, what a package looks like, and what it exports.
//
// They read the sources of the whole tree, of all platforms, with the Go tool's own packages:
//
//   - imports_test.go: who imports whom, inside the module and outside;
//   - code_test.go: what only certain packages may call, and names and declarations that the house does without;
//   - layout_test.go: the top level, file names, file lengths, words that promise work for later;
//   - vocabulary_test.go: State, Plan, Client and the others, the same in every package that declares kernel state;
//   - api_test.go: the exported API, listed in api/*.txt so that a change to it is a visible line in a diff;
//   - readme_test.go: the tests and files that the README names exist.
//
// After a change to the API that is meant,
//
//	go test ./internal/rules -update
//
// rewrites the lists. The package owns nothing in the kernel; it needs the go command in PATH.
package rules
