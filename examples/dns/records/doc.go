// Package records says which names a cluster's Services have, as the Kubernetes
// DNS specification 1.1.0 defines them
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md).
//
// A Store takes Services and EndpointSlices as they change and publishes an
// immutable Snapshot behind an atomic pointer: a question costs one load and two
// map look-ups, and is answered from one state of the cluster, never from a
// mixture. A change copies what it touches and 1/256 of its neighbours, however
// many Services there are.
//
// Where the specification is silent, the answers are those of CoreDNS's
// kubernetes plugin with its default options: endpoints of Services that have a
// cluster IP have names too, an SRV question for a Service's own name lists all
// its ports, and an endpoint without a hostname is called by its address with
// dashes. Unlike there, names that only have names below them, such as
// _tcp.web.shop.svc.cluster.local, exist (RFC 8020).
package records
