// Package proxy is the HTTP handler of the ingress: it finds the rule of a
// request, carries it to an endpoint of the rule's backend, and accounts for it.
//
// All that it knows is one immutable Snapshot (routes, endpoints, certificates)
// behind an atomic pointer. A change is a new Snapshot; requests under way end
// with the one they began with.
//
// Requests that could mean different things to different readers are refused:
// an Upgrade to anything but a WebSocket, and paths are taken as they are after
// . and .. and empty elements are resolved, for finding the rule and for the
// backend alike.
package proxy
