package vmtest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// runModprobe loads what the arguments name, as the kernel calls it: modprobe -q -- ALIAS. It exits with 1 when something could not
// be loaded and keeps quiet about unknown aliases with -q.
func runModprobe(args []string) int {
	quiet := false
	var names []string
	for _, a := range args {
		switch {
		case a == "-q" || a == "--quiet":
			quiet = true
		case strings.HasPrefix(a, "-"):
		case strings.Contains(a, "="): // a parameter for the module
		default:
			names = append(names, a)
		}
	}
	tree, err := openIndex()
	if err != nil {
		fmt.Fprintln(os.Stderr, "modprobe:", err)
		return 1
	}
	status := 0
	for _, name := range names {
		if err := loadModules(tree.resolve(name)); err != nil {
			status = 1
			if !quiet || !errors.Is(err, errNoModule) {
				fmt.Fprintf(os.Stderr, "modprobe: %s: %v\n", name, err)
			}
		}
	}
	return status
}

func openIndex() (moduleTree, error) {
	f, err := os.Open(guestIndex)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readIndex(f)
}

// loadedAtBoot are modules that a machine of the field has loaded: those that nothing asks the kernel for when they are needed, and those of nftables and IPVS.
// A transaction of nftables that needs modules is begun anew after each, which takes seconds on an emulated processor. Others come when they are asked for.
var loadedAtBoot = []string{"br_netfilter", "nf_conntrack", "nf_conntrack_netlink",
	"nft_ct", "nft_fib_inet", "nft_hash", "nft_numgen", "nft_nat", "nft_chain_nat", "nft_masq", "nft_redir", "nft_reject_inet", "nft_limit", "nft_objref", "nft_log",
	"ip_vs", "ip_vs_rr"}

// loadAtBoot loads those that the kernel has.
func loadAtBoot() error {
	tree, err := openIndex()
	if err != nil {
		return err
	}
	for _, name := range loadedAtBoot {
		if err := loadModules(tree.resolve(name)); err != nil && !errors.Is(err, errNoModule) {
			return fmt.Errorf("load module %s: %w", name, err)
		}
	}
	return nil
}

var errNoModule = errors.New("no such module in this guest")

func loadModules(order []module) error {
	if len(order) == 0 {
		return errNoModule
	}
	for _, m := range order {
		f, err := os.Open(m.path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}
