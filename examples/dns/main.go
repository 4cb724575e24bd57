// The dns example answers DNS questions about a cluster's Services, as the Kubernetes DNS specification 1.1.0 says, and
// hands all others to upstream servers.
//
//	dns -f DIR -listen 10.96.0.2:53            follow a directory of manifests
//	dns -kubeconfig FILE -upstream 192.0.2.53  follow an API server (in a pod, without -kubeconfig: its own service account)
//	dns -f DIR -netns /run/netns/node-1        serve inside another network namespace
//	dns -f DIR ask web.shop.svc.cluster.local  say what it would answer
package main

import (
	"github.com/podplumb/podplumb/examples/dns/agent"
	"github.com/podplumb/podplumb/examples/internal/run"
)

func main() { run.Main(agent.Run) }
