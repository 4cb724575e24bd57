package main

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podplumb/podplumb/examples/cluster/layout"
	"github.com/podplumb/podplumb/examples/dns/agent"
	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/manifest"
)

//go:embed dns
var dnsManifests embed.FS

// dnsImage is the image whose containers run examples/dns.
const dnsImage = "podplumb/dns"

// dnsCommand is the argument with which this program is the server of such a container.
const dnsCommand = "dns"

// addDNS puts the cluster's DNS server beside the manifests, unless they have one.
func addDNS(set *manifest.Set) error {
	if slices.ContainsFunc(set.Services, func(svc corev1.Service) bool {
		return svc.Namespace == layout.DNSNamespace && svc.Name == layout.DNSName
	}) {
		return nil
	}
	own, err := manifest.Read(dnsManifests, "dns")
	if err != nil {
		return err
	}
	set.Add(own)
	return nil
}

// runDNS is examples/dns in a container.
func runDNS(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return agent.Run(container.FollowStarter(ctx), args, stdout, stderr)
}

// objectsPath is where the objects of the cluster are for those who follow them, as others follow an API server.
func (c *cluster) objectsPath() string { return filepath.Join(c.run.Path(), "objects") }

// tellObjects writes the objects with all that the cluster decided about them.
func (c *cluster) tellObjects() error {
	if err := os.MkdirAll(c.objectsPath(), 0o755); err != nil {
		return err
	}
	known := map[string]bool{}
	var namespaces, services, pods []any
	namespace := func(name string) {
		if !known[name] {
			known[name] = true
			object := corev1.Namespace{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"}}
			object.Name = name
			namespaces = append(namespaces, object)
		}
	}
	for _, name := range []string{"default", "kube-system"} {
		namespace(name)
	}
	for i := range c.layout.Namespaces {
		namespace(c.layout.Namespaces[i].Name)
	}
	for _, svc := range slices.Concat(c.layout.Services, c.layout.Names) {
		namespace(svc.Namespace)
		svc.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
		services = append(services, svc)
	}
	for i := range c.layout.Pods {
		pod := c.layout.Pods[i].Object
		namespace(pod.Namespace)
		pod.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}
		pods = append(pods, pod)
	}
	for name, items := range map[string][]any{"namespaces": namespaces, "services": services, "pods": pods} {
		data, err := json.MarshalIndent(map[string]any{"apiVersion": "v1", "kind": "List", "items": items}, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(c.objectsPath(), name+".json"), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// startNames starts the pods that the others find names by, and waits until they are ready.
func (c *cluster) startNames(ctx context.Context) (string, error) {
	svc := c.layout.DNS()
	if svc == nil {
		return "none", nil
	}
	if err := c.tellObjects(); err != nil {
		return "", err
	}
	servers := c.selected(svc)
	group, ctx := errgroup.WithContext(ctx)
	for _, p := range servers {
		group.Go(func() error { return c.startPod(ctx, p) })
	}
	return fmt.Sprintf("%s, %s", strings.Join(svc.Spec.ClusterIPs, ", "), count(len(servers), "pod")), group.Wait()
}

// startDNS starts examples/dns in place of a container of its image.
func (c *cluster) startDNS(ctx context.Context, p *pod, config container.Config, spec *corev1.Container) error {
	log, err := c.run.Log(p.Name() + "." + spec.Name)
	if err != nil {
		return err
	}
	defer log.Close()
	config.Log = log
	args := append([]string{dnsCommand, "-f", c.objectsPath(), "-id", p.Object.Name}, spec.Args...)
	process, err := container.Program(config, "podplumb-dns", args...)
	if err != nil {
		return err
	}
	p.processes = append(p.processes, process)
	for _, port := range spec.Ports {
		p.serves(port)
	}
	if spec.ReadinessProbe == nil || spec.ReadinessProbe.HTTPGet == nil {
		return nil
	}
	if err := c.await(ctx, p, process, spec); err != nil {
		output, _ := os.ReadFile(log.Name())
		return fmt.Errorf("container %s of pod %s: %w\n%s", spec.Name, p.Name(), err, output)
	}
	return nil
}

// await asks for a container's readiness as the kubelet of its node does.
func (c *cluster) await(ctx context.Context, p *pod, process *container.Process, spec *corev1.Container) error {
	const patience, interval = 30 * time.Second, 5 * time.Millisecond
	probe := spec.ReadinessProbe.HTTPGet
	port := probe.Port.IntVal
	if probe.Port.Type == intstr.String {
		for _, named := range spec.Ports {
			if named.Name == probe.Port.StrVal {
				port = named.ContainerPort
			}
		}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	at := slices.IndexFunc(c.nodes, func(n *node) bool { return n.Name() == p.Node })
	transport := &http.Transport{DialContext: c.nodes[at].ns.DialContext, DisableKeepAlives: true}
	url := "http://" + netip.AddrPortFrom(p.Addrs[0], uint16(port)).String() + probe.Path
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := transport.RoundTrip(request)
		if err == nil {
			response.Body.Close()
			if response.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-process.Done():
			return errors.New("ended before it was ready")
		case <-ctx.Done():
			return fmt.Errorf("is not ready: %w", ctx.Err())
		case <-time.After(interval):
		}
	}
}
