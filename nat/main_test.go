package nat_test

import (
	"os"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
)

// envInside tells a test that it is a process without CAP_SYS_ADMIN.
const envInside = "PODPLUMB_NAT_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(envInside) != "" {
		os.Exit(m.Run())
	}
	os.Exit(nstest.Main(m))
}
