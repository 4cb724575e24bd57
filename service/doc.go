// Package service turns Kubernetes Services and their endpoints into what one node does about them, and has a Backend do it.
//
// Resolve is the pure half: from the objects of a State and the Node it says, as a list of Frontends, which addresses and ports the node answers for,
// where their connections go, and how those without a way are turned away. It follows kube-proxy where both have the feature: cluster IPs of one or two
// families; endpoints from EndpointSlices, or chosen by label over pods, with numeric or named target ports; the fallback to endpoints that serve while
// they terminate, separately for the Cluster and Local policies; topology hints and traffic distribution; internal and external traffic policies with
// the short cut for near clients; node ports, load balancer and external addresses, source ranges, session affinity, and the label that gives a Service
// to another proxy.
//
// A Backend is the other half. NAT serves Frontends with package nat; what it does not serve it refuses, see there. Package servicetest proves a Backend
// with packets. A Proxy stands between the two while objects change: one changed EndpointSlice or Pod becomes one small change of the Backend, whose
// cost does not depend on how many Services there are.
//
// The types have the JSON of Kubernetes (v1 Service, discovery.k8s.io/v1 EndpointSlice, and the parts of v1 Pod and v1 Node that matter here), so a
// manifest or an API object decodes into them, without a dependency on k8s.io. Unset fields mean the API server's defaults.
//
// The package owns nothing in the kernel; a Backend does. The zero State and the zero Node are valid and mean nothing to serve and a node without a name,
// zone and addresses, for which no endpoint is local. Resolve, Diff, Proxy and the types need neither root nor Linux. Out of scope: the API server's
// part (allocating addresses and ports), cluster DNS, and listening on health check node ports, for which HealthHandler has the answers.
package service
