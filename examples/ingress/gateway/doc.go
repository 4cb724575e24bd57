// Package gateway turns the objects of the Gateway API (release 1.6) into what
// is to be listened on, how requests are led there, and the status that the
// objects are to have.
//
// Compile is pure. Its Model has a Port for every address and port to listen
// on; a Port knows its listeners by hostname, a Listener its certificates and
// its httproute.Table. Which ports could be opened is told to Model.Status,
// which returns the conditions of GatewayClasses, Gateways and routes.
//
// A request belongs to the one listener of its port with the most special
// hostname (listener isolation). Listeners of a Gateway that share a port and a
// hostname, or a port and not the protocol, are all in conflict and none of
// them is served. Each Gateway has addresses of its own, from a pool or as its
// spec asks for; two Gateways that ask for the same address share it as long as
// they share no port there: the older one's listener counts.
//
// Protocols are HTTP, and HTTPS that ends here. Routes are HTTPRoutes and
// GRPCRoutes; one of each kind whose hostnames overlap on a listener cannot be
// served both, the older one counts. Not supported: ListenerSets, parameters of
// classes and Gateways, TLS passthrough, client certificates, BackendTLSPolicy.
package gateway
