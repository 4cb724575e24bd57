// Package early fits the Go runtime to a process that lasts for milliseconds, before the packages that it is made of initialize themselves:
// as it depends on next to nothing, it comes before nearly all of them. Only the program imports it, for its effect.
package early
