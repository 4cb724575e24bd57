package main

import (
	"context"
	"fmt"
	"io"

	"github.com/podplumb/podplumb/examples/internal/run"
)

func runDemo(_ context.Context, _ []string, _, stderr io.Writer) int {
	fmt.Fprintln(stderr, "mesh: say node or proxy; -h after it lists the flags")
	return run.Usage
}
