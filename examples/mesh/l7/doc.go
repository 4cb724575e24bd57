// Package l7 serves the requests of one pod in the mesh: HTTP/1.1, HTTP/2, gRPC
// and WebSockets, each carried on as what it came as.
//
// Requests that the pod sends (outbound) are led by the routes of the Service
// that it sends them to, spread over endpoints, tried again within a budget, and
// bounded in time and number. Requests that come to the pod (inbound) go to its
// application, with the identity of who sends them in X-Forwarded-Client-Cert.
// Both are counted and traced.
//
// What a Proxy knows of routes is one immutable table; a change is a new one, and
// requests under way end with the one that they began with.
//
// Requests that could mean different things to different readers are refused
// (package examples/ingress/strict); dot segments of a path are resolved before
// anything looks at it; an Upgrade to anything but a WebSocket is not passed on,
// which servers take for a plain request. HTTP/2 has no WebSockets here (RFC 8441).
package l7
