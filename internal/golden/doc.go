// Package golden runs table tests whose inputs and expected outputs lie side by side in text files.
//
// A case is one txtar archive: a comment that says what the case shows, then files, each under a line "-- name --". A test names the files that it
// reads and the files that it expects:
//
//	func TestPlan(t *testing.T) {
//		golden.Cases(t, "testdata/*.txtar", func(t *testing.T, c *golden.Case) {
//			have, want := parse(t, c.File("have.json")), parse(t, c.File("want.json"))
//			c.Want("plan", Diff(have, want).String())
//		})
//	}
//
// Every file of a case has to be read or expected by the test: a name that is misspelt in the archive, or that nothing looks at any more, fails.
//
// After a change that is meant to alter the output,
//
//	go test ./thepackage -update
//
// rewrites the expected files and nothing else; the change is then read in the diff. Output is compared as text, with a final newline added where it
// is missing. The package owns nothing in the kernel and works on every platform.
package golden
