// Package nlsock is the netlink socket that podplumb's typed netlink packages share: opened inside a given network namespace, with a
// deadline on every wait, and without a part in the runtime's poller until there is something to wait for.
//
// It owns nothing in the kernel. All but this file is Linux only.
package nlsock
