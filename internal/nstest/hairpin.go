package nstest

import (
	"testing"

	"github.com/podplumb/podplumb/netns"
)

// Hairpin lets a bridge send a packet out of the port that it came in by. A pod that
// reaches itself through an address that is translated needs it where bridged packets pass
// the IP hooks ([BrNetfilter]).
func Hairpin(t testing.TB, ns *netns.NS, port string) {
	t.Helper()
	must(t, ns, func() error { return hairpin(port) })
}
