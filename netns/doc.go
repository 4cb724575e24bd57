// Package netns makes, opens, names, pins and enters Linux network namespaces.
//
// A namespace is held by a handle, [NS], in the way an open file is held by
// an *os.File: it stays alive while the handle is open, every method of a
// closed handle returns an error that Is [fs.ErrClosed], and all methods may be
// called from several goroutines at once.
//
// # What it owns in the kernel
//
// An anonymous namespace ([New]) lives as long as a handle, a process or a
// socket is in it. A named one ([Create]) is also a bind mount on
// /run/netns/NAME, exactly as `ip netns add NAME` makes it, and lives until
// [Remove] or `ip netns del NAME`. [NS.Pin] makes such a mount on any other
// path: the namespace then outlives every process, as the pause container
// makes it do for a pod. Nothing else is ever changed: no link, address, route
// or rule.
//
// # Threads
//
// A network namespace belongs to a thread, not to a process. [NS.Do] runs a
// function on a thread that is in the namespace and gives the thread back to
// the Go runtime only after it has returned home; a thread that cannot return is
// destroyed, never reused. A goroutine that the function starts runs on some
// other thread and is therefore NOT in the namespace: it needs its own Do. A
// socket belongs to the namespace it was made in for good, so dial and listen
// inside ([NS.DialContext], [NS.Listen], [NS.ListenPacket]) and use the
// connection from any goroutine.
//
// # Needs
//
// Making and entering namespaces needs CAP_SYS_ADMIN in the user namespace that
// owns them: root, or a process in a user namespace of its own (`unshare -Urn`).
// The namespace that one is in can be used without.
// Names and pins also need a mount namespace that the caller may change
// (`unshare -Urnm`). /proc must be mounted. Linux 4.11 or later; on other systems
// every function exists and returns an error that Is [errors.ErrUnsupported].
//
// Out of scope: links, addresses and routes (see veth and vxlan), and the other
// kinds of namespaces.
package netns
