package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// Pods that a label puts into the mesh reach each other by it, and others do not reach them; what the policies deny stays denied.
func TestMesh(t *testing.T) {
	const manifests = `
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {podplumb.github.io/mesh: enabled}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: web, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: db, image: db, ports: [{containerPort: 5432}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: legacy, namespace: shop, labels: {app: legacy, podplumb.github.io/mesh: disabled}}
spec: {containers: [{name: legacy, image: legacy, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}
`
	machine := kerneltest.NewMachine(t)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shop.yaml"), []byte(manifests), 0o644))
	stdout, _ := machine.Run(t, 0, "-f", dir)
	// web to web and back, db to both, both to db; legacy and the two DNS servers to both webs. Each by IPv4 and IPv6.
	require.Contains(t, stdout, "mesh: 12 connections between its pods are answered and none can be read between the nodes, 12 from other pods are refused")
}
