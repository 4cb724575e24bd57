package nstest

import "testing"

// Main runs the tests of a package and returns the exit code, see the package
// comment.
func Main(m *testing.M) int { return runMain(m) }
