// Package plugin carries out the commands of the Container Network Interface specification, version 1.1.0 and before.
//
// ADD is a list of steps. Before the first one it writes a record of all that the steps will make; whatever becomes of them, takeDown
// undoes what the record says, in the reverse order, and does not mind what was never made. DEL, GC, a failed ADD and an ADD that comes
// again after one that was killed are all that same function, so there is one way out however an attachment ended.
package plugin
