// Package plainfile reads, writes and locks small files without the runtime's poller, which has no use for files and costs more system
// calls than they do.
package plainfile
