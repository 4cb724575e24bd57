package manifest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Annotations of pods (and of pod templates) that the examples act on. Any other key with the same prefix is a fault.
const (
	// PodIPs gives the pod these addresses instead of the next free ones of its node's ranges:
	// one address, or one of each family with a comma between them.
	PodIPs = "podplumb.github.io/pod-ips"

	// Command is a shell command that runs inside the pod's network namespace beside its containers. With a dot and the
	// name of a container behind it, the command runs in place of that container's own server.
	Command = "podplumb.github.io/command"

	annotationPrefix = "podplumb.github.io/"
)

func checkPod(pod *corev1.Pod, c *checker) {
	c.podAnnotations("metadata.annotations", pod.Annotations, &pod.Spec)
	c.podSpec("spec", &pod.Spec)
}

func checkDeployment(d *appsv1.Deployment, c *checker) {
	if d.Spec.Replicas == nil {
		one := int32(1)
		d.Spec.Replicas = &one
	}
	if *d.Spec.Replicas < 0 {
		c.add("spec.replicas", "%d is negative", *d.Spec.Replicas)
	}
	template := &d.Spec.Template
	c.labels("spec.template.metadata.labels", template.Labels)
	switch selector, err := metav1.LabelSelectorAsSelector(d.Spec.Selector); {
	case d.Spec.Selector == nil:
		c.add("spec.selector", "required")
	case err != nil:
		c.add("spec.selector", "%w", err)
	case selector.Empty():
		c.add("spec.selector", "an empty selector would own every pod")
	case !selector.Matches(labels.Set(template.Labels)):
		c.add("spec.template.metadata.labels", "spec.selector (%s) does not select them", selector)
	}
	c.podAnnotations("spec.template.metadata.annotations", template.Annotations, &template.Spec)
	if template.Annotations[PodIPs] != "" && *d.Spec.Replicas > 1 {
		c.add(annotationField("spec.template.metadata.annotations", PodIPs), "%d replicas cannot share one address", *d.Spec.Replicas)
	}
	c.podSpec("spec.template.spec", &template.Spec)
}

// podSpec checks the parts of a pod that concern its place and its ports.
func (c *checker) podSpec(path string, spec *corev1.PodSpec) {
	if len(spec.Containers) == 0 {
		c.add(path+".containers", "required")
	}
	c.labels(path+".nodeSelector", spec.NodeSelector)
	if spec.HostNetwork {
		c.warn("%s.hostNetwork: the pod has no network of its own and is not run", path)
	}
	if spec.Affinity != nil || len(spec.TopologySpreadConstraints) > 0 {
		c.warn("%s: affinity and topologySpreadConstraints are not looked at: pods are spread evenly", path)
	}
	names, portNames, ports := map[string]bool{}, map[string]bool{}, map[string]string{}
	for _, group := range []struct {
		field      string
		containers []corev1.Container
	}{{"initContainers", spec.InitContainers}, {"containers", spec.Containers}} {
		for i := range group.containers {
			container := &group.containers[i]
			field := fmt.Sprintf("%s.%s[%d]", path, group.field, i)
			if container.Name == "" {
				c.add(field+".name", "required")
			} else {
				c.each(field+".name", validation.IsDNS1123Label(container.Name))
			}
			if names[container.Name] && container.Name != "" {
				c.add(field+".name", "%q is used twice", container.Name)
			}
			names[container.Name] = true
			if group.field == "initContainers" && !isSidecar(container) {
				continue // ends before the others start, so its ports are free again
			}
			c.containerPorts(field, container, portNames, ports)
		}
	}
}

// isSidecar tells whether an init container keeps running beside the others (KEP-753).
func isSidecar(container *corev1.Container) bool {
	return container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// Containers returns the containers of a pod that run side by side: sidecars first, as they are started.
func Containers(spec *corev1.PodSpec) []corev1.Container {
	var list []corev1.Container
	for i := range spec.InitContainers {
		if isSidecar(&spec.InitContainers[i]) {
			list = append(list, spec.InitContainers[i])
		}
	}
	return append(list, spec.Containers...)
}

// containerPorts checks the ports of one container. Containers of a pod share one port space.
func (c *checker) containerPorts(field string, container *corev1.Container, names map[string]bool, taken map[string]string) {
	for i := range container.Ports {
		port := &container.Ports[i]
		field := fmt.Sprintf("%s.ports[%d]", field, i)
		c.port(field+".containerPort", port.ContainerPort)
		c.protocol(field+".protocol", &port.Protocol)
		if port.Protocol == corev1.ProtocolSCTP {
			c.warn("%s: nothing listens on SCTP ports here", field)
		}
		if port.HostPort != 0 {
			c.warn("%s.hostPort: host ports are not opened", field)
		}
		if port.Name != "" {
			c.each(field+".name", validation.IsValidPortName(port.Name))
			if names[port.Name] {
				c.add(field+".name", "%q is used twice in the pod", port.Name)
			}
			names[port.Name] = true
		}
		key := fmt.Sprint(port.Protocol, port.ContainerPort)
		if owner, ok := taken[key]; ok {
			c.add(field+".containerPort", "%s %d is already taken by container %q: the containers of a pod share one port space",
				port.Protocol, port.ContainerPort, owner)
		}
		taken[key] = container.Name
	}
}

func annotationField(path, key string) string { return fmt.Sprintf("%s[%q]", path, key) }

func (c *checker) podAnnotations(path string, annotations map[string]string, spec *corev1.PodSpec) {
	for _, key := range sortedKeys(annotations) {
		field := annotationField(path, key)
		container, ofContainer := strings.CutPrefix(key, Command+".")
		switch {
		case !strings.HasPrefix(key, annotationPrefix):
		case key == PodIPs:
			c.podIPs(field, annotations[key])
		case key == Command || ofContainer:
			if strings.TrimSpace(annotations[key]) == "" {
				c.add(field, "empty command")
			}
			known := slices.ContainsFunc(Containers(spec), func(c corev1.Container) bool { return c.Name == container })
			if ofContainer && !known {
				c.add(field, "the pod has no container %q", container)
			}
		default:
			c.add(field, "unknown annotation: %s, %s and %s.CONTAINER are known", PodIPs, Command, Command)
		}
	}
}

func (c *checker) podIPs(field, text string) {
	families := map[bool]bool{}
	for part := range strings.SplitSeq(text, ",") {
		addr := c.address(field, strings.TrimSpace(part))
		if addr.IsValid() && families[addr.Is4()] {
			c.add(field, "two addresses of one family")
		}
		families[addr.Is4()] = addr.IsValid()
	}
}

// ParsePodIPs returns the addresses that the PodIPs annotation of a checked pod asks for.
func ParsePodIPs(annotations map[string]string) []netip.Addr {
	var addrs []netip.Addr
	for part := range strings.SplitSeq(annotations[PodIPs], ",") {
		if addr, err := netip.ParseAddr(strings.TrimSpace(part)); err == nil {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}
