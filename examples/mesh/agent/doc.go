// Package agent brings the pods of a node into the mesh: it captures their
// connections, serves them the SPIFFE Workload API, and is their proxy.
//
// For a pod of its node that the World has in the mesh, the agent opens the
// proxy's sockets inside the pod's network namespace and captures what begins
// from then on. Nothing runs in the pod, and it does not matter who starts
// first. Connections that are made meanwhile wait for the identity to come.
//
// A pod that has the annotation podplumb.github.io/mesh-sidecar: USER brings a
// proxy of its own, which runs as that user inside. The agent then captures and
// serves the Workload API, and no more.
//
// When the agent ends, what was captured stays captured, and refuses until
// there is an agent again; unless Config.Release is set.
package agent
