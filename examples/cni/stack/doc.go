// Package stack makes room on a goroutine's stack while it is shallow.
package stack
