// Command podvm runs compiled Go tests in a virtual machine whose kernel has what the host's kernel lacks.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/podplumb/podplumb/internal/vmtest"
)

const usage = `podvm runs compiled Go tests in a virtual machine (QEMU, software emulation).

  podvm exec [flags] TESTBINARY [test flags]     for go test -exec "podvm exec"
  podvm run [flags] -- TESTBINARY [test flags]   the same, for people; several: podvm run [flags] -- A.test B.test -- [test flags]
  podvm report [flags] DIR [-- test flags]       run the tests that a host run deferred into DIR
  podvm packages [flags] PACKAGE... [-- test flags]   run all kernel tests of these packages, by import path, in one boot
  podvm fetch [flags]                            download the kernel, print its folder
  podvm check                                    say which packages are missing

Each flag has an environment variable: -kernel-dir is PODPLUMB_VM_KERNEL_DIR. Flags:
`

// exitFault is the exit code when the machine, not a test, failed.
const exitFault = 125

func main() {
	vmtest.Guest()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT)
	code, err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string) (int, error) {
	flags := flag.NewFlagSet("podvm", flag.ContinueOnError)
	flags.Usage = func() {
		fmt.Fprint(os.Stderr, usage)
		flags.PrintDefaults()
	}
	o := register(flags)
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		flags.Usage()
		return 2, nil
	}
	if err := flags.Parse(args[1:]); err != nil {
		return 2, nil // flag has printed it
	}
	c, err := o.config()
	if err != nil {
		return 2, err
	}
	switch rest := flags.Args(); args[0] {
	case "exec", "run":
		return runBinaries(ctx, c, rest)
	case "report":
		if len(rest) == 0 {
			return 2, errors.New("podvm: report: which folder?")
		}
		return runReport(ctx, c, rest[0], rest[1:], o.verbose)
	case "packages":
		return runPackages(ctx, c, rest, o.verbose)
	case "fetch":
		image, err := vmtest.Fetch(ctx, c.Kernel)
		if err != nil {
			return exitFault, err
		}
		fmt.Println(image.Release, image.Modules)
		return 0, nil
	case "check":
		if err := vmtest.Check(); err != nil {
			return exitFault, err
		}
		return 0, nil
	default:
		flags.Usage()
		return 2, fmt.Errorf("podvm: no command %q", args[0])
	}
}

type options struct {
	kernel, version, dir, cache, tools, append string
	memory, cpus                               int
	boot, total                                time.Duration
	console, verbose, counted                  bool
	err                                        error
}

// register declares the flags, with their defaults from the environment.
func register(f *flag.FlagSet) *options {
	o := &options{}
	env := func(name string) string {
		return os.Getenv("PODPLUMB_VM_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_")))
	}
	number := func(name string) int {
		n, err := strconv.Atoi(env(name))
		if env(name) != "" {
			o.err = errors.Join(o.err, err)
		}
		return n
	}
	duration := func(name string) time.Duration {
		d, err := time.ParseDuration(env(name))
		if env(name) != "" {
			o.err = errors.Join(o.err, err)
		}
		return d
	}
	f.StringVar(&o.kernel, "kernel", env("kernel"), "package of the kernel (default "+vmtest.DefaultPackage+", on Ubuntu "+vmtest.UbuntuPackage+")")
	f.StringVar(&o.version, "version", env("version"), "version of that package (default the one that apt prefers)")
	f.StringVar(&o.dir, "kernel-dir", env("kernel-dir"), "folder with boot/vmlinuz-* and lib/modules/*, instead of a package")
	f.StringVar(&o.cache, "cache", env("cache"), "folder for unpacked kernels (default podplumb-vm in the user's cache folder)")
	f.StringVar(&o.tools, "tools", env("tools"), "comma-separated programs to take along, besides "+strings.Join(vmtest.DefaultTools(), ","))
	f.StringVar(&o.append, "append", env("append"), "more words for the kernel's command line")
	f.IntVar(&o.memory, "memory", number("memory"), "MiB of memory (default 1024)")
	f.IntVar(&o.cpus, "cpus", number("cpus"), "processors (default 1)")
	f.DurationVar(&o.boot, "boot", duration("boot"), "time for the boot (default 1m)")
	f.DurationVar(&o.total, "total", duration("total"), "time for everything (default from the tests' timeouts)")
	f.BoolVar(&o.counted, "counted", env("counted") != "", "for benchmarks: the guest's clock counts instructions, whatever else the host does")
	f.BoolVar(&o.console, "console", env("console") != "", "show the kernel's console on stderr")
	f.BoolVar(&o.verbose, "v", env("v") != "", "report: show the output of tests that pass too")
	return o
}

func (o *options) config() (vmtest.Config, error) {
	if o.err != nil {
		return vmtest.Config{}, fmt.Errorf("podvm: environment: %w", o.err)
	}
	c := vmtest.Config{
		Kernel: vmtest.Kernel{Package: o.kernel, Version: o.version, Dir: o.dir, Cache: o.cache},
		Memory: o.memory, CPUs: o.cpus, Boot: o.boot, Total: o.total, Append: o.append,
	}
	if o.tools != "" {
		c.Tools = append(vmtest.DefaultTools(), strings.Split(o.tools, ",")...)
	}
	c.Counted = o.counted
	if o.console {
		c.Console = os.Stderr
	}
	return c, nil
}
