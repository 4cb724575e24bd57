// Package report prints what an example does while it does it: a line for each step that begins before the work and ends
// with what came of it, and the findings below. It is plain text; only on a terminal the words "ok" and "FAILED" have colour.
package report
