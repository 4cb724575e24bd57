// Package servicetest proves, with real packets, that a service.Backend keeps the promises of its Frontends.
//
// A test hands it a function that makes the Backend for a node:
//
//	func TestConformance(t *testing.T) {
//		servicetest.Run(t, servicetest.Config{New: func(t testing.TB, node *netns.NS) service.Backend { ... }})
//	}
//
// Run builds a cluster of network namespaces: the node under test with three pods, a second node with two, and a host outside that can reach both nodes
// and routes the service addresses to the first. Every row of the suite drives the Backend through a service.Proxy, first with a whole State and then
// with changes, opens connections from pods, from the node and from outside, and looks at who answers, whom the answering pod saw, or how the
// connection was turned away. Each row runs for IPv4 and for IPv6.
//
// It needs Linux and the right to make network namespaces (it is skipped, with the reason, where a kernel feature is missing), and leaves nothing
// behind.
package servicetest
