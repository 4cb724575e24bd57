package plugin

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/podplumb/podplumb/examples/cni/plainfile"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/netns"
)

// The generation of the ruleset after each change of the table is handed on to the next process, which then need not look whether the
// table's rules are still there. It counts for this boot, this namespace and this program alone.

// epoch names them; empty: they cannot be known.
func epoch() string {
	boot, err := plainfile.Read("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	ns, err := netns.Current()
	if err != nil {
		return ""
	}
	defer ns.Close()
	var exe syscall.Stat_t
	id, err := ns.ID()
	if err != nil || syscall.Stat("/proc/self/exe", &exe) != nil {
		return ""
	}
	return fmt.Sprintf("%s %d %d %d %d", strings.TrimSpace(string(boot)), id.Ino, exe.Ino, exe.Size, exe.Mtim.Nano())
}

// handedOn is the generation that the process before has left for the epoch; zero: there is none to trust.
func handedOn(s record.Store, now string) (generation uint32) {
	b, err := plainfile.Read(s.NodeFile("generation"))
	if err != nil {
		return 0
	}
	if rest, found := strings.CutPrefix(string(b), now+" "); found && now != "" {
		g, _ := strconv.ParseUint(strings.TrimSpace(rest), 10, 32)
		generation = uint32(g)
	}
	return generation
}

// handOn leaves the generation for the next process. A file that is not written whole is not trusted.
func handOn(s record.Store, now string, generation uint32) {
	if now == "" || generation == 0 {
		_ = os.Remove(s.NodeFile("generation"))
		return
	}
	_ = plainfile.Overwrite(s.NodeFile("generation"), fmt.Appendf(nil, "%s %-10d\n", now, generation))
}
