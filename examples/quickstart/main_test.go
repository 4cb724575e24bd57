package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/podplumb/podplumb/netns"
)

// block returns the README's block of the given language that holds the marker.
func block(t *testing.T, language, marker string) string {
	t.Helper()
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	open, wanted := false, false
	for line := range strings.Lines(string(readme)) {
		switch fence, isFence := strings.CutPrefix(strings.TrimSpace(line), "```"); {
		case isFence && !open:
			open, wanted = true, fence == language
			text.Reset()
		case isFence:
			if wanted && strings.Contains(text.String(), marker) {
				return text.String()
			}
			open = false
		default:
			text.WriteString(line)
		}
	}
	t.Fatalf("README.md has no %s block with %q", language, marker)
	return ""
}

// The README shows this program from main on, and what it prints.
func TestREADME(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, body, _ := strings.Cut(string(source), "func main() {")
	if shown := block(t, "go", "func main() {"); shown != "func main() {"+body {
		t.Errorf("the quick start of README.md is not examples/quickstart/main.go:\n%s", shown)
	}

	program := filepath.Join(t.TempDir(), "quickstart")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	var out, stderr bytes.Buffer
	cmd := exec.Command(program)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	if shown := block(t, "", "hello 10.1.0.1"); shown != out.String() {
		t.Errorf("README.md shows\n%s\nthe program prints\n%s", shown, out.String())
	}
	names, err := netns.List()
	if err != nil {
		t.Fatal(err)
	}
	if slices.Contains(names, "quickstart-pod") {
		t.Error("the program left its namespace behind")
	}
}
