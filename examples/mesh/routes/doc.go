// Package routes attaches HTTPRoutes and GRPCRoutes to Services, as the Gateway
// API has it for meshes (GEP-1294):
//
// A route whose parentRef is a Service of its own namespace is its producer's and
// counts for all clients; one of another namespace is a consumer's and counts for
// clients of that namespace only, in place of the producer's. A parentRef may name
// a port, by number or (sectionName) by name. Where GRPCRoutes and HTTPRoutes meet
// at a port, the GRPCRoutes count. Hostnames mean nothing, and references to
// backends in other namespaces need no ReferenceGrant. Requests that no rule of an
// attached route matches are not served (404).
package routes
