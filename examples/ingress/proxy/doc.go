// Package proxy is the HTTP handler of the ingress: it finds the rule of a
// request, carries it to an endpoint of the rule's backend, and accounts for it.
//
// All that it knows is one immutable Snapshot (routes, endpoints, certificates)
// behind an atomic pointer. A change is a new Snapshot; requests under way end
// with the one they began with.
//
// Requests that come in at an address of a Gateway are led by the routes of that
// Gateway, those elsewhere by Ingresses. Filters, timeouts, retries and mirrors
// of routes are done here; a body that is needed more than once is kept as far
// as a window of it goes.
//
// Requests that could mean different things to different readers are refused:
// an Upgrade to anything but a WebSocket, and paths are taken as they are after
// . and .. and empty elements are resolved, for finding the rule and for the
// backend alike.
package proxy
