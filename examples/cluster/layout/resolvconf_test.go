package layout_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/cluster/layout"
)

func TestResolvConf(t *testing.T) {
	t.Parallel()
	names := corev1.Service{}
	names.Namespace, names.Name = layout.DNSNamespace, layout.DNSName
	names.Spec.ClusterIPs = []string{"10.96.0.53", "fd00:10:96::35"}
	two := "2"
	config := &corev1.PodDNSConfig{
		Nameservers: []string{"192.0.2.53", "192.0.2.54", "10.96.0.53"}, Searches: []string{"example.com", "cluster.local"},
		Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: &two}, {Name: "rotate"}},
	}
	const first = "search shop.svc.cluster.local svc.cluster.local cluster.local"
	for name, tt := range map[string]struct {
		services []corev1.Service
		spec     corev1.PodSpec
		want     string
	}{
		"usual":                    {[]corev1.Service{names}, corev1.PodSpec{}, first + "\nnameserver 10.96.0.53\nnameserver fd00:10:96::35\noptions ndots:5\n"},
		"first and more":           {[]corev1.Service{names}, corev1.PodSpec{DNSPolicy: corev1.DNSClusterFirst, DNSConfig: config}, first + " example.com\nnameserver 10.96.0.53\nnameserver fd00:10:96::35\nnameserver 192.0.2.53\noptions ndots:2 rotate\n"},
		"its own":                  {[]corev1.Service{names}, corev1.PodSpec{DNSPolicy: corev1.DNSNone, DNSConfig: config}, "search example.com cluster.local\nnameserver 192.0.2.53\nnameserver 192.0.2.54\nnameserver 10.96.0.53\noptions ndots:2 rotate\n"},
		"the node's":               {[]corev1.Service{names}, corev1.PodSpec{DNSPolicy: corev1.DNSDefault}, ""},
		"no server in the cluster": {nil, corev1.PodSpec{}, ""},
	} {
		cluster := layout.Cluster{Services: tt.services}
		pod := &corev1.Pod{Spec: tt.spec}
		pod.Namespace = "shop"
		require.Equal(t, tt.want, cluster.ResolvConf(pod), name)
	}
}
