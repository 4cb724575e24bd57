// Package e2e holds tests of the cni and node examples with the programs that use CNI plugins: containerd and runc over CRI, podman,
// cnitool and libcni, on nodes that are namespaces of this machine.
package e2e
