// Package nstest is the harness of the tests that need a kernel: it gives a test
// fresh network namespaces, skips it honestly where the kernel lacks a feature, builds
// small topologies, sends real packets and finds what a test left behind.
//
// A package with kernel tests hands its tests to [Main]:
//
//	func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
//
// The test binary runs itself again in a mount namespace of its own, where /run/netns is
// private to it: the tests of several packages run side by side without seeing each other's
// names, and what a killed test leaves behind goes with its process. Without root it runs
// again in a new user and network namespace as well, where it has every capability over the
// namespaces it makes. Standard streams, flags, signals and the exit code pass through. In the guest of
// internal/vmtest, and where no mount namespace can be made, root runs the tests directly.
//
// It owns nothing in the kernel beyond the end of a test. Its topologies are made
// with plain netlink requests of its own, never with the packages under test
// (netns apart), so that a fault of theirs cannot hide here.
//
// # Environment
//
// PODPLUMB_KERNEL_TESTS=must turns a skip for a missing feature into a failure.
// PODPLUMB_GUEST=defer lets those that the guest of internal/vmtest provides be
// skipped nevertheless. PODPLUMB_IN_GUEST=1 is set inside that guest.
// PODPLUMB_KERNEL_REPORT=DIR makes every [Require] append a line to a file of
// this process in DIR, with tabs between the fields: what happened (run, skip, guest, or old where
// the kernel is of a release before the feature), the import path, the test and the feature.
package nstest
