// Package stream is where the two layers of a mesh's proxy meet.
//
// The lower one captures connections, ends mutual TLS and finds out what is
// spoken: it hands every connection that speaks HTTP to a Handler, with its
// original addresses and the verified identity of the other side. The upper one
// routes requests; it asks a Resolver what there is in the cluster and a Dialer
// for connections, and never sees a certificate or a network namespace.
//
// There is one Handler for each meshed pod, with a Dialer that connects from
// inside that pod under its identity, so that connections kept for later can
// never serve another pod.
package stream
