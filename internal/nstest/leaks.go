package nstest

import "testing"

// Leaks makes the test fail if, after its other cleanups, it has left a file
// descriptor, a goroutine, a thread in a foreign namespace, more threads, or a network
// namespace behind. Call it first, and not in a test that runs in parallel with others.
func Leaks(t testing.TB) {
	t.Helper()
	leaks(t)
}
