package layout

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// Zone is the domain of the cluster.
const Zone = "cluster.local"

// The Service by which pods find names has this name in every cluster.
const (
	DNSNamespace = "kube-system"
	DNSName      = "kube-dns"
)

// DNS returns the Service by which pods find names, or nil.
func (c *Cluster) DNS() *corev1.Service {
	for i := range c.Services {
		if svc := &c.Services[i]; svc.Namespace == DNSNamespace && svc.Name == DNSName {
			return svc
		}
	}
	return nil
}

// What a kubelet accepts of a resolv.conf: what resolvers read of it.
const (
	mostServers  = 3
	mostSearches = 32
)

// ResolvConf is the /etc/resolv.conf that a kubelet gives a pod, by its dnsPolicy and dnsConfig. It is empty for a pod that is to
// have the node's own.
func (c *Cluster) ResolvConf(pod *corev1.Pod) string {
	var servers, searches []string
	var options []option
	switch policy := pod.Spec.DNSPolicy; policy {
	case corev1.DNSNone:
	case corev1.DNSDefault:
		return ""
	default: // ClusterFirst
		svc := c.DNS()
		if svc == nil {
			return ""
		}
		servers = slices.Clone(svc.Spec.ClusterIPs)
		searches = []string{pod.Namespace + ".svc." + Zone, "svc." + Zone, Zone}
		options = []option{{"ndots", "5"}}
	}
	if own := pod.Spec.DNSConfig; own != nil {
		servers, searches = append(servers, own.Nameservers...), append(searches, own.Searches...)
		for _, o := range own.Options {
			value := ""
			if o.Value != nil {
				value = *o.Value
			}
			if i := slices.IndexFunc(options, func(have option) bool { return have.name == o.Name }); i >= 0 {
				options[i].value = value
			} else {
				options = append(options, option{o.Name, value})
			}
		}
	}
	servers, searches = once(servers, mostServers), once(searches, mostSearches)
	var text strings.Builder
	if len(searches) > 0 {
		fmt.Fprintf(&text, "search %s\n", strings.Join(searches, " "))
	}
	for _, server := range servers {
		fmt.Fprintf(&text, "nameserver %s\n", server)
	}
	if len(options) > 0 {
		text.WriteString("options")
		for _, o := range options {
			text.WriteString(" " + o.String())
		}
		text.WriteByte('\n')
	}
	return text.String()
}

// option is an option of resolv.conf, such as ndots:5 or rotate.
type option struct{ name, value string }

func (o option) String() string {
	if o.value == "" {
		return o.name
	}
	return o.name + ":" + o.value
}

// once keeps the first of equal items, and at most n.
func once(items []string, n int) []string {
	var kept []string
	for _, item := range items {
		if !slices.Contains(kept, item) && len(kept) < n {
			kept = append(kept, item)
		}
	}
	return kept
}
