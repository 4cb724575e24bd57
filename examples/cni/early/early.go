package early

import (
	"runtime"

	"github.com/podplumb/podplumb/examples/cni/stack"
)

var _ = begin()

func begin() bool {
	stack.Grow()
	// A second processor of the runtime's would have threads, and heap pages of its own, for work that hardly ever is side by side. System
	// calls that wait do not keep it from other work.
	runtime.GOMAXPROCS(1)
	return true
}
