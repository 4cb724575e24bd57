package policy_test

import (
	"os"
	"testing"

	"github.com/podplumb/podplumb/internal/nstest"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }
