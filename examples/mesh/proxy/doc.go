// Package proxy is the mesh's proxy of one pod, up to the transport layer.
//
// Connections that the pod opens come to it by the capture. It finds out what
// is behind their destination, chooses an endpoint, and connects to it by mutual
// TLS 1.3, under the pod's identity, if the endpoint is in the mesh: the other
// side has to prove the identity that the endpoint has in the cluster. What is
// not in the mesh is reached as the pod meant to.
//
// Connections that others open to the pod have to be mutual TLS with an
// identity of the trust domain, and the identity has to be allowed at the port
// (Policy). Connections in clear are refused, unless the port is permissive.
//
// What is spoken inside is known from the Service (appProtocol) or from the
// other proxy, by ALPN. Where nothing says it, whoever
// speaks first decides: the proxy connects on at once, and a server that speaks
// first is heard at once. HTTP goes to the Handler; all else passes as bytes,
// each direction ended by itself.
//
// A connection that cannot be served is reset and counted, with the reason.
package proxy
