// Package ipam hands out pod addresses from ranges and remembers who has which.
//
// A Store is a directory of one network. Allocating and releasing cost the same whether ten or ten thousand addresses are leased: the
// leases of each block of 65,536 addresses are a file that is mapped into memory, with a bitmap of what is taken and the owner of each
// address. The file is sparse, so it takes the space of the leases and not of the block.
//
// Any number of processes may use one Store at once; a lock on the directory lets one of them in at a time, and it is released by the
// kernel when its holder dies. A process that is killed at any instant leaves either the old or the new state of every address, and
// an address it took without being able to say so is found again by its owner, see [Store.Leases].
//
// Addresses are handed out in turn, so that one that was released rests as long as the range allows before it is used again.
package ipam
