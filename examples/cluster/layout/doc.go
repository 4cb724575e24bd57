// Package layout decides what a cluster made of manifests looks like: which pods there are, which node runs each, and
// which addresses nodes, pods and Services have. It does in one pure function what several components share in
// Kubernetes: the ReplicaSet controller (pods of a Deployment), the scheduler (nodeName, nodeSelector, taints, an even
// spread), the node IPAM controller (ranges of nodes), the CNI plugin's IPAM (addresses of pods) and the API server
// (cluster IPs).
package layout
