// Package world knows what there is in a cluster as far as a mesh has to:
// which addresses are Services, which pods are behind them, which of these are
// in the mesh, under which identity, and who may connect to them.
//
// It follows Namespaces, Nodes, Pods, Services and EndpointSlices of a source
// and makes an immutable snapshot of what changed. Without EndpointSlices for a
// Service, which a directory of manifests need not have, its selector decides.
//
// A pod is in the mesh if the label podplumb.github.io/mesh of the pod, or
// else of its namespace, is "enabled". These annotations of a pod say more:
//
//	podplumb.github.io/mesh-sidecar           the user of the proxy that runs in the pod, instead of the node's
//	podplumb.github.io/mesh-permissive        ports that also take connections in clear
//	podplumb.github.io/mesh-allow             who may connect: spiffe://cluster.local/ns/shop/sa/web, or ns/shop/sa/*
//	podplumb.github.io/mesh-allow.PORT        the same for one port
//	podplumb.github.io/mesh-exclude-inbound   ports that the mesh leaves alone: 9100,15020-15030
//	podplumb.github.io/mesh-exclude-outbound
//
// What cannot be read is told, and counts as what lets in the fewest.
package world
