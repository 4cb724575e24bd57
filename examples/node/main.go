// Command node makes this machine a node of a cluster whose pods are joined by VXLAN: it keeps the overlay device, a peer and routes for
// every other node, forwarding and masquerading, writes the CNI configuration once the overlay works, and follows changes.
//
//	node -name node-a -nodes /etc/podplumb/nodes
//	node -name node-a -kubeconfig /etc/kubernetes/node.kubeconfig
//	node -down
//
// It works in the network namespace in which it is started. What it has made stays when it ends, and the next one takes it over: packets
// flow while there is no agent. Only -down removes it.
package main

import (
	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/node/agent"
)

func main() { run.Main(agent.Run) }
