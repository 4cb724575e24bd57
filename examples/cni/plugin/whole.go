package plugin

import (
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/podplumb/podplumb/examples/cni/record"
)

// The generation of the ruleset after each change of the table is handed on to the next process, which then need not look whether the
// table's rules are still there. It counts for this boot, this namespace and this program alone.

// epoch names them.
func epoch() (string, bool) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false
	}
	var ns, exe syscall.Stat_t
	if syscall.Stat("/proc/thread-self/ns/net", &ns) != nil || syscall.Stat("/proc/self/exe", &exe) != nil {
		return "", false
	}
	return fmt.Sprintf("%s %d %d %d %d", strings.TrimSpace(string(boot)), ns.Ino, exe.Ino, exe.Size, exe.Mtim.Nano()), true
}

// handedOn is the generation that the process before has left; zero: there is none to trust.
func handedOn(s record.Store) (generation uint32) {
	b, err := os.ReadFile(s.NodeFile("generation"))
	if err != nil {
		return 0
	}
	now, ok := epoch()
	if rest, found := strings.CutPrefix(string(b), now+" "); ok && found {
		_, _ = fmt.Sscan(rest, &generation)
	}
	return generation
}

// handOn leaves the generation for the next process. A file that is not written whole is not trusted.
func handOn(s record.Store, generation uint32) {
	now, ok := epoch()
	if !ok || generation == 0 {
		_ = os.Remove(s.NodeFile("generation"))
		return
	}
	_ = os.WriteFile(s.NodeFile("generation"), fmt.Appendf(nil, "%s %d\n", now, generation), 0o600)
}
