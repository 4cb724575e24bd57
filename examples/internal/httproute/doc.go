// Package httproute compiles the rules of HTTPRoutes and GRPCRoutes of the
// Gateway API (gateway.networking.k8s.io/v1, release 1.6) into immutable tables
// that lead requests to backends.
//
// It knows nothing of where a route is attached: a gateway and a mesh use it
// alike. Three steps:
//
//	route := httproute.FromHTTP(object, resolve)                      // or FromGRPC: one object, and what is wrong with it
//	table := httproute.New([]httproute.Attachment{{Route: route}})    // all that is attached to one place, in the specification's order
//	match := table.Find(request, host)                                // nil: 404
//
// A Match has all that is to be done with the request: the Backend that is
// drawn by weight, the filters of the rule and of the backend, timeouts and
// retries. The package sends nothing itself.
//
// What the specification leaves to the implementation:
//
//   - A RegularExpression is one of Go's (RE2) and has to match the whole path,
//     header or parameter. It comes after Exact paths and before prefixes; of
//     several the longest comes first.
//   - A header that a request has several times is compared as one, joined with
//     commas (RFC 9110, 5.3). Of a query parameter the first counts.
//   - Paths are compared after percent-decoding; what a rewrite leaves of a path
//     keeps its encoding.
//   - A filter may stand only once in a list, except RequestMirror.
//     ExternalAuth is not supported. No ExtensionRef is known: requests for a
//     rule with one are answered with 500.
//   - A rule that cannot be served as it is written is left out, and the others
//     of its route are served (the condition PartiallyInvalid).
package httproute
