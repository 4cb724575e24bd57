// Package conditions checks the four conditions of the Kubernetes network model with packets, in both address families:
//
//  1. every pod has an address of its own
//  2. every pod reaches every other pod without NAT
//  3. every node reaches every pod without NAT
//  4. the address that a pod sees itself as is the one that others see
//
// One kind of probe serves all four: a TCP connection from a socket inside the namespace of a pod or node to the server of
// a pod, which says who it is, which addresses it finds on its own interfaces, and where the connection came from and
// arrived. Without NAT both ends name the same two addresses and ports.
package conditions
