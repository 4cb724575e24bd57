// Package agent is the dns example itself: it follows a directory of manifests or
// an API server, and serves the names of what is there. It is a package so that
// other examples can run it inside a pod.
package agent
