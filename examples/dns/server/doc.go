// Package server answers DNS questions about a cluster from a records.Store,
// with CoreDNS's server and forwarder as libraries: no Corefile, no plugin
// registry, and sockets that the caller opens, so that it serves inside any
// network namespace.
//
// There is no cache: an answer is made from the Store's newest Snapshot, so a
// change is visible with the first question after Store.Update returns. Until
// the first Update the cluster's zone answers SERVFAIL, which clients try again,
// and never NXDOMAIN, which they believe.
package server
