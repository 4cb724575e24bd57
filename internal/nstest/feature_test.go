package nstest_test

import (
	"os"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

func TestProbes(t *testing.T) {
	nstest.Leaks(t)
	for _, f := range nstest.Features() {
		t.Logf("%-16s %v", f, nstest.Probe(f))
	}
	t.Logf("%-16s %v", nstest.Tool("ip"), nstest.Probe(nstest.Tool("ip")))
	t.Logf("%-16s %v", nstest.Tool("no-such-tool"), nstest.Probe(nstest.Tool("no-such-tool")))
}
