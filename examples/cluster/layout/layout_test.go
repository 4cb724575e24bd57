package layout_test

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/internal/manifest"
)

func arrange(t *testing.T, text string) (layout.Cluster, error) {
	t.Helper()
	set, err := manifest.Read(fstest.MapFS{"a.yaml": &fstest.MapFile{Data: []byte(text)}}, ".")
	require.NoError(t, err)
	return layout.Arrange(set, 2)
}

// places writes what was arranged in one line for each object.
func places(c layout.Cluster) []string {
	var lines []string
	for _, n := range c.Nodes {
		lines = append(lines, fmt.Sprintf("%s %v %s %s", n.Name(), n.Addrs, n.PodNets[0].Range, n.PodNets[1].Range))
	}
	for _, p := range c.Pods {
		lines = append(lines, fmt.Sprintf("%s on %s %v", p.Name(), p.Node, p.Addrs))
	}
	for _, s := range c.Services {
		lines = append(lines, fmt.Sprintf("%s %v", s.Name, s.Spec.ClusterIPs))
	}
	return lines
}

func TestShippedScenario(t *testing.T) {
	t.Parallel()
	set, err := manifest.Read(os.DirFS("../manifests"), ".")
	require.NoError(t, err)
	cluster, err := layout.Arrange(set, 0)
	require.NoError(t, err)
	require.Empty(t, cluster.Warnings)
	require.Equal(t, []string{
		"node-a [10.0.0.1 fd00:10::1] 10.244.1.0/24 fd00:10:244:1::/64",
		"node-b [10.0.0.2 fd00:10::2] 10.244.2.0/24 fd00:10:244:2::/64",
		"pod-1 on node-a [10.244.1.5 fd00:10:244:1::5]",
		"pod-2 on node-a [10.244.1.6 fd00:10:244:1::6]",
		"pod-3 on node-b [10.244.2.3 fd00:10:244:2::3]",
		"pod-4 on node-b [10.244.2.4 fd00:10:244:2::4]",
		"my-service [10.96.0.10 fd00:10:96::a]",
	}, places(cluster))
	require.Equal(t, "10.0.0.254", cluster.Underlay[0].Router.String())
	require.Equal(t, "fd00:10::fe", cluster.Underlay[1].Router.String())
	require.Equal(t, "10.244.1.1", cluster.Nodes[0].PodNets[0].Router.String())
	require.Equal(t, "fd00:10:244:1::1", cluster.Nodes[0].PodNets[1].Router.String())
}

func TestOrdinaryApplication(t *testing.T) {
	t.Parallel()
	set, err := manifest.Read(os.DirFS("../shop"), ".")
	require.NoError(t, err)
	cluster, err := layout.Arrange(set, 2)
	require.NoError(t, err)
	require.Equal(t, []string{
		"shop.yaml: document 4 (line 85): v1 ConfigMap settings: this kind is not run here and was passed over",
		"no document declares a Node: 2 are made up",
	}, cluster.Warnings)
	require.Len(t, cluster.Pods, 5)
	names := map[string]bool{}
	for i, p := range cluster.Pods {
		require.Regexp(t, `^shop/(web|names)-[a-z0-9]{8,10}-[a-z0-9]{5,6}$`, p.Name())
		require.Equal(t, []string{"node-a", "node-b"}[i%2], p.Node, "spread evenly")
		require.Equal(t, p.Node, p.Object.Spec.NodeName)
		require.Equal(t, p.Addrs[0].String(), p.Object.Status.PodIPs[0].IP)
		require.Equal(t, p.Addrs[1].String(), p.Object.Status.PodIPs[1].IP)
		names[p.Name()] = true
	}
	require.Len(t, names, 5)
	require.Equal(t, []string{"web [10.96.0.2 fd00:10:96::2]", "names [10.96.0.3]"}, places(cluster)[7:])
}

func TestExpandIsStable(t *testing.T) {
	t.Parallel()
	text := `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: %d
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}, annotations: {note: hello}}, spec: {containers: [{name: c, image: %s}]}}
`
	expand := func(replicas int, image string) []string {
		set, err := manifest.Read(fstest.MapFS{"a.yaml": &fstest.MapFile{Data: fmt.Appendf(nil, text, replicas, image)}}, ".")
		require.NoError(t, err)
		var names []string
		for _, p := range layout.Expand(&set.Deployments[0]) {
			require.Equal(t, "shop", p.Namespace)
			require.Equal(t, "web", p.Labels["app"])
			require.Equal(t, "hello", p.Annotations["note"])
			hash := p.Labels["pod-template-hash"]
			require.True(t, strings.HasPrefix(p.Name, "web-"+hash+"-"))
			require.Equal(t, "web-"+hash, p.OwnerReferences[0].Name)
			names = append(names, p.Name)
		}
		return names
	}
	require.Empty(t, expand(0, "one"))
	many := expand(500, "one")
	unique := map[string]bool{}
	for _, name := range many {
		unique[name] = true
	}
	require.Len(t, unique, 500)
	require.Equal(t, many[:3], expand(3, "one"))
	require.NotEqual(t, many[:3], expand(3, "two"))
}

const twoNodes = `
apiVersion: v1
kind: Node
metadata: {name: left, labels: {disk: ssd}}
---
apiVersion: v1
kind: Node
metadata: {name: right}
---
`

func podOf(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: {%scontainers: [{name: c}]}\n---\n", name, spec)
}

func TestSchedule(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want []string // pod on node
	}{
		"round robin":          {twoNodes + podOf("a", "") + podOf("b", "") + podOf("c", ""), []string{"a on left", "b on right", "c on left"}},
		"node name":            {twoNodes + podOf("a", "nodeName: right, ") + podOf("b", "nodeName: right, "), []string{"a on right", "b on right"}},
		"others go around it":  {twoNodes + podOf("a", "") + podOf("b", "") + podOf("c", "nodeName: left, "), []string{"a on right", "b on left", "c on left"}},
		"node selector":        {twoNodes + podOf("a", "nodeSelector: {disk: ssd}, ") + podOf("b", "nodeSelector: {disk: ssd}, "), []string{"a on left", "b on left"}},
		"kubelet's own labels": {twoNodes + podOf("a", "nodeSelector: {kubernetes.io/hostname: right, kubernetes.io/os: linux}, "), []string{"a on right"}},
		"unschedulable": {strings.Replace(twoNodes, "kind: Node\nmetadata: {name: right}", "kind: Node\nmetadata: {name: right}\nspec: {unschedulable: true}", 1) +
			podOf("a", "") + podOf("b", "") + podOf("c", "nodeName: right, "), []string{"a on left", "b on left", "c on right"}},
		"taint": {strings.Replace(twoNodes, "metadata: {name: right}", "metadata: {name: right}\nspec: {taints: [{key: control, effect: NoSchedule}]}", 1) +
			podOf("a", "") + podOf("b", "") + podOf("c", "tolerations: [{key: control, operator: Exists}], "), []string{"a on left", "b on left", "c on right"}},
		"soft taint": {strings.Replace(twoNodes, "metadata: {name: left, labels: {disk: ssd}}", "metadata: {name: left}\nspec: {taints: [{key: busy, effect: PreferNoSchedule}]}", 1) +
			podOf("a", ""), []string{"a on left"}},
		"host network is left out": {twoNodes + podOf("a", "hostNetwork: true, ") + podOf("b", ""), []string{"b on left"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := arrange(t, test.text)
			require.NoError(t, err)
			var got []string
			for _, p := range cluster.Pods {
				got = append(got, p.Name()+" on "+p.Node)
			}
			require.Equal(t, test.want, got)
		})
	}
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	node := func(name, spec, addresses string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\nspec: {%s}\nstatus: {addresses: [%s]}\n---\n", name, spec, addresses)
	}
	pinned := func(name, node, ips string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, annotations: {podplumb.github.io/pod-ips: '%s'}}\nspec: {nodeName: %s, containers: [{name: c}]}\n---\n", name, ips, node)
	}
	tests := map[string]struct {
		text string
		want []string
	}{
		"named node addresses and the rest": {
			node("one", "", "") + node("two", "", "{type: InternalIP, address: 10.0.0.1}") + node("three", "", "{type: InternalIP, address: 'fd00:10::1'}"),
			[]string{"one [10.0.0.2 fd00:10::2] 10.244.1.0/24 fd00:10:244:1::/64", "two [10.0.0.1 fd00:10::3] 10.244.2.0/24 fd00:10:244:2::/64", "three [10.0.0.3 fd00:10::1] 10.244.3.0/24 fd00:10:244:3::/64"},
		},
		"a network of their own": {
			node("one", "", "{type: InternalIP, address: 192.168.4.9}, {type: ExternalIP, address: 198.51.100.1}") + node("two", "", "{type: InternalIP, address: 192.168.5.9}") + node("three", "", ""),
			[]string{"one [192.168.4.9 fd00:10::1] 10.244.1.0/24 fd00:10:244:1::/64", "two [192.168.5.9 fd00:10::2] 10.244.2.0/24 fd00:10:244:2::/64", "three [192.168.4.1 fd00:10::3] 10.244.3.0/24 fd00:10:244:3::/64"},
		},
		"named ranges and the rest": {
			node("one", "", "") + node("two", "podCIDR: 10.244.1.0/24", "") + node("three", "podCIDRs: ['fd00:7::/64', 172.20.0.0/20]", ""),
			[]string{"one [10.0.0.1 fd00:10::1] 10.244.2.0/24 fd00:10:244:1::/64", "two [10.0.0.2 fd00:10::2] 10.244.1.0/24 fd00:10:244:2::/64", "three [10.0.0.3 fd00:10::3] 172.20.0.0/20 fd00:7::/64"},
		},
		"pinned pods and the rest": {
			node("only", "", "") + podOf("a", "") + pinned("b", "only", "10.244.1.2") + pinned("c", "only", "fd00:10:244:1::2, 10.244.1.9") + podOf("d", ""),
			[]string{"only [10.0.0.1 fd00:10::1] 10.244.1.0/24 fd00:10:244:1::/64", "a on only [10.244.1.3 fd00:10:244:1::3]", "b on only [10.244.1.2 fd00:10:244:1::4]", "c on only [10.244.1.9 fd00:10:244:1::2]", "d on only [10.244.1.4 fd00:10:244:1::5]"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := arrange(t, test.text)
			require.NoError(t, err)
			require.Equal(t, test.want, places(cluster))
			for _, n := range cluster.Nodes {
				require.True(t, cluster.Underlay[0].Range.Contains(n.Addrs[0]))
				require.True(t, covered(cluster.PodRanges, n.PodNets[0].Range) && covered(cluster.PodRanges, n.PodNets[1].Range))
			}
		})
	}
}

func covered(ranges []netip.Prefix, cidr netip.Prefix) bool {
	for _, r := range ranges {
		if r.Bits() <= cidr.Bits() && r.Contains(cidr.Addr()) {
			return true
		}
	}
	return false
}

func TestClusterIPs(t *testing.T) {
	t.Parallel()
	svc := func(name, spec string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s}\nspec: {%sports: [{port: 80}]}\n---\n", name, spec)
	}
	cluster, err := arrange(t, svc("a", "")+svc("b", "clusterIP: 10.96.0.2, ")+svc("c", "ipFamilies: [IPv6], ")+svc("d", "ipFamilyPolicy: RequireDualStack, ipFamilies: [IPv6], ")+
		svc("e", "ipFamilyPolicy: PreferDualStack, clusterIP: 'fd00:99::1', ")+svc("f", "clusterIP: None, ")+svc("g", "type: ExternalName, externalName: example.com, ")+svc("h", "clusterIPs: [10.43.0.7], "))
	require.NoError(t, err)
	require.Equal(t, []string{"a [10.96.0.3]", "b [10.96.0.2]", "c [fd00:10:96::2]", "d [fd00:10:96::3 10.96.0.4]", "e [fd00:99::1 10.96.0.5]", "h [10.43.0.7]"}, places(cluster)[2:])
	require.True(t, covered(cluster.ServiceRanges, netip.MustParsePrefix("fd00:99::1/128")))
	require.True(t, covered(cluster.ServiceRanges, netip.MustParsePrefix("10.43.0.7/32")))
	require.Len(t, cluster.Names, 2)
	require.Equal(t, "f", cluster.Names[0].Name)
	require.Equal(t, "g", cluster.Names[1].Name)
}

func TestFaults(t *testing.T) {
	t.Parallel()
	nodeWith := func(name, rest string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Node\nmetadata: {name: %s}\n%s\n---\n", name, rest)
	}
	pinned := func(name, ips string) string {
		return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s, annotations: {podplumb.github.io/pod-ips: '%s'}}\nspec: {nodeName: left, containers: [{name: c}]}\n---\n", name, ips)
	}
	const annotation = `metadata.annotations["podplumb.github.io/pod-ips"]`
	tests := map[string]struct {
		text string
		want []string // ends of the messages
	}{
		"no such node":       {podOf("a", "nodeName: x, "), []string{`Pod default/a: spec.nodeName: there is no node "x": there are node-a, node-b`}},
		"no node has labels": {podOf("a", "nodeSelector: {disk: ssd}, "), []string{"Pod default/a: spec.nodeSelector: no node takes pod a: node-a does not have the labels; node-b does not have the labels"}},
		"every node is tainted": {nodeWith("only", "spec: {taints: [{key: k, value: v, effect: NoExecute}]}") + podOf("a", ""),
			[]string{"Pod default/a: spec: no node takes pod a: only has the taint k=v:NoExecute"}},
		"deployment cannot be placed": {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\nspec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {nodeName: x, containers: [{name: c}]}}}\n",
			[]string{`Deployment default/d: spec.template.spec.nodeName: there is no node "x": there are node-a, node-b`}},
		"pinned elsewhere":        {twoNodes + pinned("a", "10.244.2.5"), []string{"Pod default/a: " + annotation + ": 10.244.2.5 is not a pod address of its node left, whose range is 10.244.1.0/24"}},
		"pinned to the broadcast": {twoNodes + pinned("a", "10.244.1.255"), []string{"Pod default/a: " + annotation + ": 10.244.1.255 is not a pod address of its node left, whose range is 10.244.1.0/24"}},
		"pinned to the gateway":   {twoNodes + pinned("a", "10.244.1.1"), []string{"Pod default/a: " + annotation + ": 10.244.1.1 already belongs to the gateway of left"}},
		"pinned twice":            {twoNodes + pinned("a", "10.244.1.5") + pinned("b", "10.244.1.5"), []string{"Pod default/b: " + annotation + ": 10.244.1.5 already belongs to pod a"}},
		"range is full": {nodeWith("only", "spec: {podCIDR: 10.244.1.0/30}") + podOf("a", "") + podOf("b", ""),
			[]string{"Pod default/b: no address is left for pod b in 10.244.1.0/30 of only"}},
		"node address twice": {nodeWith("a", "status: {addresses: [{type: InternalIP, address: 10.0.0.9}]}") + nodeWith("b", "status: {addresses: [{type: InternalIP, address: 10.0.0.9}]}"),
			[]string{"Node b: status.addresses[0].address: 10.0.0.9 is also an address of node a"}},
		"two node addresses": {nodeWith("a", "status: {addresses: [{type: InternalIP, address: 10.0.0.9}, {type: InternalIP, address: 10.0.0.8}]}"),
			[]string{"Node a: status.addresses[1].address: second InternalIP of the same address family"}},
		"nodes far apart": {nodeWith("a", "status: {addresses: [{type: InternalIP, address: 10.0.0.1}]}") + nodeWith("b", "status: {addresses: [{type: InternalIP, address: 192.168.0.1}]}"),
			[]string{"the node addresses are too far apart to lie in one network: 192.168.0.1 is not in 0.0.0.0/8 of the others"}},
		"ranges overlap": {nodeWith("a", "spec: {podCIDR: 10.244.0.0/16}") + nodeWith("b", "spec: {podCIDR: 10.244.3.0/24}"),
			[]string{"Node b: spec.podCIDRs[0]: 10.244.3.0/24 overlaps 10.244.0.0/16 of node a"}},
		"range in the underlay": {nodeWith("a", "spec: {podCIDR: 10.0.0.0/25}"), []string{"Node a: spec.podCIDRs[0]: 10.0.0.0/25 overlaps 10.0.0.0/24 of the nodes' own network"}},
		"no range is left":      {nodeWith("a", "spec: {podCIDR: 10.244.0.0/16}") + nodeWith("b", ""), []string{"Node b: spec.podCIDRs: no range is left in 10.244.0.0/16"}},
		"cluster IP twice": {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}\n---\napiVersion: v1\nkind: Service\nmetadata: {name: b}\nspec: {clusterIP: 10.96.0.9, ports: [{port: 80}]}\n",
			[]string{"Service default/b: spec.clusterIPs[0]: 10.96.0.9 already belongs to Service default/a"}},
		"cluster IP of a pod": {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.244.1.9, ports: [{port: 80}]}\n",
			[]string{"Service default/a: spec.clusterIPs[0]: 10.244.1.9 lies in the pods' range 10.244.0.0/16"}},
		"cluster IP of a node": {"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 10.0.0.9, ports: [{port: 80}]}\n",
			[]string{"Service default/a: spec.clusterIPs[0]: 10.0.0.9 lies in the nodes' own network 10.0.0.0/24"}},
		"all at once": {podOf("a", "nodeName: x, ") + podOf("b", "nodeName: z, "),
			[]string{`Pod default/a: spec.nodeName: there is no node "x": there are node-a, node-b`, `Pod default/b: spec.nodeName: there is no node "z": there are node-a, node-b`}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, err := arrange(t, test.text)
			require.Error(t, err)
			require.Equal(t, layout.Cluster{}, cluster)
			lines := strings.Split(err.Error(), "\n")
			require.Lenf(t, lines, len(test.want), "%v", err)
			for i, want := range test.want {
				require.Truef(t, strings.HasSuffix(lines[i], want), "%s\ndoes not end with\n%s", lines[i], want)
			}
		})
	}
}

// What nobody wrote has no place in a file.
func TestTooManyNodes(t *testing.T) {
	t.Parallel()
	_, err := layout.Arrange(manifest.Set{}, 254)
	require.EqualError(t, err, "Node node-253: no address is left for the node in 10.0.0.0/24")
}

func TestExposure(t *testing.T) {
	t.Parallel()
	cluster, err := arrange(t, `
apiVersion: v1
kind: Service
metadata: {name: port}
spec: {type: NodePort, ports: [{name: a, port: 80}, {name: b, port: 81, nodePort: 30000}, {name: c, port: 80, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: balanced}
spec: {type: LoadBalancer, ipFamilyPolicy: RequireDualStack, loadBalancerIP: 203.0.113.1, ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: portless}
spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: false, externalIPs: [198.51.100.7], ports: [{port: 80}]}
`)
	require.NoError(t, err)
	var ports []int32
	for _, s := range cluster.Services {
		for _, p := range s.Spec.Ports {
			ports = append(ports, p.NodePort)
		}
	}
	require.Equal(t, []int32{30001, 30000, 30000, 30002, 0}, ports)
	require.Equal(t, []layout.Entry{
		{Addr: netip.MustParseAddr("203.0.113.1"), Node: "node-a"}, {Addr: netip.MustParseAddr("2001:db8:113::1"), Node: "node-a"},
		{Addr: netip.MustParseAddr("198.51.100.7"), Node: "node-a"}, {Addr: netip.MustParseAddr("203.0.113.2"), Node: "node-a"},
	}, cluster.Entries)

	_, err = arrange(t, `
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}
---
apiVersion: v1
kind: Service
metadata: {name: b}
spec: {type: NodePort, ports: [{port: 80, nodePort: 30080}]}
`)
	require.ErrorContains(t, err, "Service default/b: spec.ports[0].nodePort: TCP/30080 already belongs to Service default/a")
}
