package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/mesh/trace"
)

// runTrace draws the traces of a file: all, or those whose identities begin so.
func runTrace(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprintln(stderr, "usage: mesh trace FILE [ID...]")
		return run.Usage
	}
	f, err := os.Open(args[0])
	if err != nil {
		fmt.Fprintln(stderr, "mesh trace:", err)
		return run.Failed
	}
	defer f.Close()
	all, err := trace.Read(f)
	for _, t := range all {
		wanted := len(args) == 1
		for _, id := range args[1:] {
			wanted = wanted || strings.HasPrefix(t.ID, id)
		}
		if wanted {
			fmt.Fprintln(stdout, t)
		}
	}
	if err != nil { // some lines, say the last one of a proxy that was killed
		fmt.Fprintln(stderr, "mesh trace:", err)
		return run.Failed
	}
	return run.Proved
}
