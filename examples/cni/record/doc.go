// Package record is the plugin's memory: a file for each attachment of a container to a network, and claims on the node's ports.
//
// The file of an attachment is a journal. Before ADD changes anything it writes down, durably, what it is about to make; DEL, GC, CHECK
// and a second ADD work from that file alone. An entry that was only half written when the process died is ignored, and the one before
// it counts. The file is also the lock of its attachment, which the kernel releases when its holder dies.
package record
