package e2e_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
)

// Two machines with containerd, the agent and the plugin are a cluster: pods reach each other under their own addresses, host ports lead to
// them from everywhere, and when they are gone so is everything that was theirs.
func TestContainerd(t *testing.T) {
	t.Parallel()
	kerneltest.RequireHost(t, "containerd", "ctr", "runc", "busybox", "nsenter", "nft", loopback)
	l := newLab(t, 2)
	image := writeImage(t, l.dir)
	runtimes := make([]*engine, 2)
	var starting sync.WaitGroup
	for i, n := range l.nodes {
		starting.Go(func() { runtimes[i] = n.startContainerd(t, image) })
	}
	starting.Wait()
	for _, n := range l.nodes {
		n.daemon(t, "agent", filepath.Join(programs(t), agentName), "-name", n.name, "-nodes", filepath.Join(l.dir, "nodes"), "-conflist", n.path("net.d/10-podplumb.conflist"))
	}
	for _, r := range runtimes {
		require.NotNil(t, r)
		r.ready(t)
	}
	a, b := runtimes[0], runtimes[1]

	// A first pod makes what all pods of a node share, and what is there after it is what has to be there at the end.
	before := make([][]string, 2)
	for i, r := range runtimes {
		first, err := r.run(t, "first", nil,
			&cri.PortMapping{Protocol: cri.Protocol_TCP, HostPort: 30098, ContainerPort: 8080},
			&cri.PortMapping{Protocol: cri.Protocol_TCP, HostPort: 30099, ContainerPort: 8080, HostIp: r.node.addrs[0].Addr().String()})
		require.NoError(t, err)
		first.stop(t)
		before[i] = r.node.state(t)
	}

	web, err := a.run(t, "web", nil,
		&cri.PortMapping{Protocol: cri.Protocol_TCP, HostPort: 30080, ContainerPort: 8080},
		&cri.PortMapping{Protocol: cri.Protocol_TCP, HostPort: 30081, ContainerPort: 8080, HostIp: a.node.addrs[0].Addr().String()})
	require.NoError(t, err)
	near, err := a.run(t, "near", nil)
	require.NoError(t, err)
	far, err := b.run(t, "far", map[string]string{"kubernetes.io/ingress-bandwidth": "50M", "kubernetes.io/egress-bandwidth": "50M"})
	require.NoError(t, err)
	pods := []*pod{web, near, far}
	for _, p := range pods {
		require.Len(t, p.addrs, 2)
		for family, addr := range p.addrs {
			require.True(t, p.runtime.node.ranges[family].Contains(addr), addr)
		}
	}
	require.Contains(t, b.node.must(t, "tc", "qdisc"), "tbf", "the bandwidth of the annotations")

	for family := range 2 {
		for _, p := range pods {
			for _, q := range pods {
				check(t, answer{p.addrs[family], q.config.GetHostname()}, p.ask(t, netip.AddrPortFrom(q.addrs[family], 8080)), "pod to pod")
			}
		}
		gateway, tunnel := a.node.ranges[family].Addr().Next(), a.node.ranges[family].Addr()
		check(t, answer{gateway, "web"}, ask(t, a.node.ns, netip.AddrPortFrom(web.addrs[family], 8080)), "node to its pod")
		check(t, answer{tunnel, "far"}, ask(t, a.node.ns, netip.AddrPortFrom(far.addrs[family], 8080)), "node to a pod of the other")

		port := netip.AddrPortFrom(a.node.addrs[family].Addr(), 30080)
		check(t, answer{outside[family].Addr(), "web"}, ask(t, l.wire, port), "host port from outside")
		checkPod(t, "web", ask(t, a.node.ns, port), "host port from its node")
		checkPod(t, "web", ask(t, b.node.ns, port), "host port from another node")
		checkPod(t, "web", ask(t, a.node.ns, netip.AddrPortFrom(localhost[family], 30080)), "host port of localhost")
		for _, p := range pods {
			checkPod(t, "web", p.ask(t, port), "host port from a pod")
		}
	}
	checkPod(t, "web", ask(t, l.wire, netip.AddrPortFrom(a.node.addrs[0].Addr(), 30081)), "host port of one address")

	// A host port that is taken is refused, and nothing comes of the pod.
	during := a.node.state(t)
	_, err = a.run(t, "second", nil, &cri.PortMapping{Protocol: cri.Protocol_TCP, HostPort: 30080, ContainerPort: 8080})
	require.ErrorContains(t, err, "30080")
	a.removeFailed(t)
	a.node.same(t, during)

	// The runtime dies; the pods live on, and the next one finds and stops them.
	a.kill(t)
	require.Equal(t, "web", ask(t, l.wire, netip.AddrPortFrom(a.node.addrs[0].Addr(), 30080)).pod)
	a.start(t)
	a.ready(t)

	for _, p := range pods {
		p.stop(t)
	}
	for i, r := range runtimes {
		r.node.same(t, before[i])
	}
}

var localhost = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback()}

// check and checkPod let the test go on: the other ways are of interest too.
func check(t testing.TB, want, have answer, what string) {
	t.Helper()
	if want != have {
		t.Errorf("%s: %+v, want %+v", what, have, want)
	}
}

func checkPod(t testing.TB, want string, have answer, what string) {
	t.Helper()
	check(t, answer{have.from, want}, have, what)
}

// removeFailed removes the sandboxes that did not come up, which a kubelet does too.
func (r *engine) removeFailed(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	list, err := r.pods.ListPodSandbox(ctx, &cri.ListPodSandboxRequest{Filter: &cri.PodSandboxFilter{State: &cri.PodSandboxStateValue{State: cri.PodSandboxState_SANDBOX_NOTREADY}}})
	require.NoError(t, err)
	for _, sandbox := range list.GetItems() {
		(&pod{runtime: r, sandbox: sandbox.GetId()}).stop(t)
	}
}
