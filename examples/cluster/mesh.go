package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/report"
	"github.com/podplumb/podplumb/examples/mesh/agent"
	"github.com/podplumb/podplumb/examples/mesh/identity"
	"github.com/podplumb/podplumb/examples/mesh/l7"
	"github.com/podplumb/podplumb/examples/mesh/lab"
	"github.com/podplumb/podplumb/examples/mesh/stream"
	"github.com/podplumb/podplumb/examples/mesh/world"
	"github.com/podplumb/podplumb/netns"
	"github.com/podplumb/podplumb/policy"
)

// mesh brings the pods into the mesh that the label asks for, when everything else has been proved, and proves it. The agents are
// part of this process: they let go of the pods when it is done.
func (c *cluster) mesh(ctx context.Context) error {
	w := world.New(spiffeid.RequireTrustDomainFromString("cluster.local"), func(err error) { c.out.Line("mesh: %v", err) })
	w.Set(c.objects()...)
	s, _ := w.Snapshot()
	meshed := map[string]bool{}
	for _, p := range s.Pods {
		if p.Workload.Meshed {
			meshed[p.Workload.String()] = true
		}
	}
	if len(meshed) == 0 {
		return nil
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer func() { stop(); running.Wait() }()
	c.out.Line("")
	err := c.out.Steps(ctx, report.Step{Title: "mesh: an agent on each node", Do: func(ctx context.Context) (string, error) {
		return fmt.Sprintf("%s captured", count(len(meshed), "pod")), c.enrol(ctx, serving, &running, w, len(meshed))
	}})
	if err != nil {
		return err
	}
	c.out.Line("")
	return c.proveMesh(ctx, meshed)
}

// objects are what an API server would show of the cluster.
func (c *cluster) objects() []runtime.Object {
	var list []runtime.Object
	for i := range c.layout.Namespaces {
		list = append(list, &c.layout.Namespaces[i])
	}
	for i := range c.layout.Nodes {
		list = append(list, &c.layout.Nodes[i].Object)
	}
	for _, p := range c.layout.Pods {
		object := p.Object.DeepCopy()
		object.Spec.NodeName = p.Node
		list = append(list, object)
	}
	for i := range c.layout.Services {
		list = append(list, &c.layout.Services[i])
	}
	return list
}

// enrol starts the agents, and returns when they have captured as many pods as there are.
func (c *cluster) enrol(ctx, serving context.Context, running *sync.WaitGroup, w *world.World, pods int) error {
	ca, err := identity.OpenCA(identity.Config{TrustDomain: spiffeid.RequireTrustDomainFromString("cluster.local")})
	if err != nil {
		return err
	}
	failed := make(chan error, len(c.nodes))
	var agents []*agent.Agent
	for _, n := range c.nodes {
		a := agent.New(agent.Config{
			Node: n.Name(), World: w, Issuer: ca, Sockets: filepath.Join(c.run.Path(), "mesh."+n.Name()),
			Find: func(p *world.Pod) (*netns.NS, error) {
				for _, own := range n.pods {
					if own.Object.Namespace == p.Workload.Namespace && own.Object.Name == p.Workload.Name {
						return netns.OpenName(own.ns.Name())
					}
				}
				return nil, fmt.Errorf("no pod %s on %s", p.Workload, n.Name())
			},
			Handler: func(pod *stream.Workload, d stream.Dialer) stream.Handler {
				return l7.New(l7.Config{Workload: pod, Resolver: w, Dialer: d})
			},
			Probes: c.probes(n), Cluster: append(append([]netip.Prefix{}, c.layout.PodRanges...), c.layout.ServiceRanges...), Drain: -1, Release: true,
		})
		agents = append(agents, a)
		running.Go(func() {
			if err := a.Run(serving); err != nil {
				failed <- err
			}
		})
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		ready := 0
		for _, a := range agents {
			list, _ := a.Ready()
			ready += len(list)
		}
		if ready == pods {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-ctx.Done():
			return fmt.Errorf("%d of %d pods: %w", ready, pods, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// probes are the addresses from which a node reaches its own pods.
func (c *cluster) probes(n *node) []netip.Prefix {
	var list []netip.Prefix
	for _, network := range n.PodNets {
		list = append(list, netip.PrefixFrom(network.Router, network.Router.BitLen()))
	}
	return list
}

// proveMesh has every pod ask every pod of the mesh, as far as the policies allow it. Those of the mesh are answered, by way of
// both proxies and unreadable between the nodes; the others are refused.
func (c *cluster) proveMesh(ctx context.Context, meshed map[string]bool) error {
	state, err := c.layout.Policies()
	if err != nil {
		return err
	}
	var taps []*lab.Wiretap
	defer func() {
		for _, t := range taps {
			_ = t.Close()
		}
	}()
	for _, n := range c.nodes {
		t, err := lab.Tap(n.ns, "eth0")
		if err != nil {
			return err
		}
		taps = append(taps, t)
	}
	evaluator := policy.NewEvaluator(state)
	answered, refused := 0, 0
	var wrong []string
	var mu sync.Mutex
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(atOnce)
	for _, from := range c.pods {
		for _, to := range c.pods {
			if from == to || to.probe == 0 || !meshed[fullName(to)] {
				continue
			}
			for family := range to.Addrs {
				if !from.Addrs[family].IsValid() || !to.Addrs[family].IsValid() {
					continue
				}
				packet := policy.Packet{Protocol: policy.TCP, Src: from.Addrs[family], Dst: to.Addrs[family], Port: to.probe}
				if !evaluator.Evaluate(packet).Allowed {
					continue
				}
				group.Go(func() error {
					ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
					defer cancel()
					asked, err := container.Ask(ctx, from.ns.DialContext, netip.AddrPortFrom(packet.Dst, packet.Port))
					mu.Lock()
					defer mu.Unlock()
					switch {
					case !meshed[fullName(from)] && errors.Is(err, syscall.ECONNRESET):
						refused++
					case meshed[fullName(from)] && err == nil && asked.Client.Addr() == packet.Dst:
						answered++
					default:
						wrong = append(wrong, fmt.Sprintf("%s -> %s  %s: seen from %s, %v", from.Name(), to.Name(), netip.AddrPortFrom(packet.Dst, packet.Port), asked.Client, err))
					}
					return nil
				})
			}
		}
	}
	if err := group.Wait(); err != nil {
		return err
	}
	readable := 0
	for _, t := range taps {
		t.Settle()
		readable += t.Saw(`"container":`)
	}
	c.out.Verdict(len(wrong) == 0 && readable == 0, "mesh: %d connections between its pods are answered and none can be read between the nodes, %d from other pods are refused", answered, refused)
	for _, line := range wrong {
		c.out.Line("          but: %s", line)
	}
	if len(wrong) > 0 || readable > 0 {
		return fmt.Errorf("the mesh does not hold: %d connections went wrong, %d frames can be read", len(wrong), readable)
	}
	return nil
}

func fullName(p *pod) string { return p.Object.Namespace + "/" + p.Object.Name }
