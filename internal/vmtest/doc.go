// Package vmtest runs Go test binaries in a small virtual machine whose kernel has what the host's kernel lacks.
//
// The machine is QEMU with software emulation (-accel tcg, so it works inside other virtual machines and in CI) and Debian's
// cloud kernel with its modules. Run packs a newc cpio image in memory order: an init of this package, the test binaries with
// their testdata, the tools that the tests call (with the shared libraries that those need), and the kernel's networking
// modules. The image boots, runs one job after the other, streams their output and brings back exit codes and output files.
// The guest has no network device but loopback.
//
// One program has three faces, chosen by Guest: the host's command, process 1 of the guest, and the guest's /sbin/modprobe,
// which loads modules by the aliases and dependencies in their .modinfo sections. A program that calls Run must call Guest first
// thing in main (or TestMain), because it is copied into the guest as /init.
//
// # Use
//
// The command is cmd/podvm:
//
//	CGO_ENABLED=0 go build -o podvm ./internal/vmtest/cmd/podvm
//	go test -exec "$PWD/podvm exec" ./ipvs                 # every test of a package, in the guest
//	podvm run -- ./ipvs.test -test.v -test.run Scheduler    # a compiled test binary
//	podvm report DIR                                       # the tests that a host run deferred, see below
//	podvm packages github.com/podplumb/podplumb/nat        # all kernel tests of packages, on the guest's kernel
//	podvm fetch                                            # download the kernel only, print its folder
//
// Flags and environment variables say which kernel it is (podvm -h lists them): -kernel linux-image-cloud-amd64 with -version
// for a package of the Debian archive, or -kernel-dir for a folder with boot/vmlinuz-* and lib/modules/*. Packages are downloaded
// with apt-get and unpacked into the user's cache folder (or $PODPLUMB_VM_CACHE); nothing is installed.
//
// Inside the guest the tests see PODPLUMB_IN_GUEST=1 and PODPLUMB_KERNEL_TESTS=must. Files that they write for
// PODPLUMB_KERNEL_REPORT, and the profiles named by -test flags, are carried back to the host.
//
// # Deferred tests
//
// A host run with PODPLUMB_GUEST=defer and PODPLUMB_KERNEL_REPORT=DIR leaves lines "guest, import path, test, feature",
// separated by tabs, for each test that the host's kernel cannot run. podvm report DIR compiles those packages and runs exactly
// those tests, all in one boot. A test on the list that did not run and pass there is a failure.
//
// podvm packages does the same with the kernel tests that the packages' sources declare. It is for kernels older than the host's: tests of a feature that
// came with a later release are named with it (see nstest.Require), and any other test or subtest that is skipped fails.
//
// # Needs
//
// Linux on amd64; the Debian packages qemu-system-x86 (install with --no-install-recommends), apt and dpkg. Neither root nor
// /dev/kvm.
package vmtest
