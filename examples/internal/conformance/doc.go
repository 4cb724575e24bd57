// Package conformance is a cluster for the conformance tests of the Gateway
// API: an API server in memory, and pods that are addresses of the loopback
// device with the servers that the tests expect behind them, all in one process.
//
// It does what a kubelet and the controllers of Deployments and EndpointSlices
// do, as far as the tests need it: a Deployment becomes pods that are ready, a
// Service with a selector an EndpointSlice. The servers answer what they are
// asked, as the image echo-basic of the tests does: HTTP/1 at port 3000,
// HTTP/2 in clear at 3001, or gRPC at 3000.
//
// Run the tests in a network namespace of their own: they use well-known ports.
package conformance
