// Package account proves that every kernel test has run somewhere: on the host, or in the guest that has what the host's kernel lacks.
//
// A skip that nobody reads hides a feature that nobody tests. So three lists are held against each other: the kernel tests that the sources declare
// (every Test function of a file kernel*_test.go), the report that nstest.Require writes while tests run (who asked for which kernel feature, and
// what came of it), and the results that "go test -json" tells. A test counts as run where it passed or failed; skipped, or never started, does not
// count.
//
// Filter turns the stream of "go test -json" back into the lines that go test prints: the verdict of each test, the reason of each skip, all that a
// failed test wrote, a line for each package. Packages that run side by side come out one after the other.
//
// The package owns nothing in the kernel. The program cmd/account is what the Makefile calls.
package account
