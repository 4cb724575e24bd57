package layout

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"maps"
	"net/netip"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/podplumb/podplumb/examples/internal/manifest"
)

// source is the object of the manifests that a pod comes from, and the path of the pod's fields in it.
type source struct {
	object metav1.Object
	path   string // "" for a Pod, "spec.template." for a Deployment
}

func (a *arranger) arrangePods() {
	var sources []source
	for i := range a.set.Pods {
		pod := &a.set.Pods[i]
		if pod.Spec.HostNetwork {
			continue // the manifest package has said so
		}
		a.cluster.Pods = append(a.cluster.Pods, Pod{Object: *pod.DeepCopy()})
		sources = append(sources, source{pod, ""})
	}
	for i := range a.set.Deployments {
		deployment := &a.set.Deployments[i]
		if deployment.Spec.Template.Spec.HostNetwork {
			continue
		}
		for _, pod := range Expand(deployment) {
			a.cluster.Pods = append(a.cluster.Pods, Pod{Object: pod})
			sources = append(sources, source{deployment, "spec.template."})
		}
	}
	a.schedule(sources)
	a.podAddresses(sources)
	for i := range a.cluster.Pods {
		markRunning(&a.cluster.Pods[i])
	}
}

// Expand returns the pods that a Deployment's ReplicaSet makes. Their names have the form of Kubernetes' own, a hash of the
// template and a suffix, but stay the same from run to run.
func Expand(deployment *appsv1.Deployment) []corev1.Pod {
	template := deployment.Spec.Template
	text, _ := json.Marshal(template)
	hash := rand.SafeEncodeString(fmt.Sprint(digest(text)))
	owner := deployment.Name + "-" + hash
	uid := types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", digest([]byte(deployment.Namespace)), digest([]byte(owner))))
	controller := true
	var pods []corev1.Pod
	for i := range *deployment.Spec.Replicas {
		suffix := rand.SafeEncodeString(fmt.Sprintf("%05d", digest(fmt.Appendf(nil, "%s/%s/%d", deployment.Namespace, owner, i))%100000))
		pod := corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
		pod.Namespace = deployment.Namespace
		pod.Name = owner + "-" + suffix
		pod.GenerateName = owner + "-"
		pod.Labels = maps.Clone(template.Labels)
		pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey] = hash
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: owner, UID: uid, Controller: &controller}}
		for _, other := range pods {
			if other.Name == pod.Name { // two of the hundred thousand suffixes met
				pod.Name += fmt.Sprint(i)
			}
		}
		pods = append(pods, pod)
	}
	return pods
}

func digest(data []byte) uint32 {
	hash := fnv.New32a()
	hash.Write(data)
	return hash.Sum32()
}

// podAddresses gives each pod one address of each family out of its node's ranges; addresses that annotations ask for go first.
func (a *arranger) podAddresses(sources []source) {
	owners := map[netip.Addr]string{}
	for _, node := range a.cluster.Nodes {
		for _, network := range node.PodNets {
			owners[network.Router] = "the gateway of " + node.Name()
		}
	}
	for i := range a.cluster.Pods {
		pod := &a.cluster.Pods[i]
		pod.Addrs = make([]netip.Addr, 2)
		node, ok := a.nodeNames[pod.Node]
		if !ok {
			continue // could not be scheduled, which is a fault already
		}
		for _, addr := range manifest.ParsePodIPs(pod.Object.Annotations) {
			network := a.cluster.Nodes[node].PodNets[is6(addr)].Range
			field := fmt.Sprintf("%smetadata.annotations[%q]", sources[i].path, manifest.PodIPs)
			free := allocator{network: network}
			switch owner, taken := owners[addr]; {
			case !network.Contains(addr) || !free.usable(addr):
				a.fault(a.set.Fault(sources[i].object, field, "%s is not a pod address of its node %s, whose range is %s", addr, pod.Node, network))
			case taken:
				a.fault(a.set.Fault(sources[i].object, field, "%s already belongs to %s", addr, owner))
			default:
				owners[addr] = "pod " + pod.Name()
				pod.Addrs[is6(addr)] = addr
			}
		}
	}
	free := map[netip.Prefix]*allocator{}
	for i := range a.cluster.Pods {
		pod := &a.cluster.Pods[i]
		node, ok := a.nodeNames[pod.Node]
		if !ok {
			continue
		}
		for family, network := range a.cluster.Nodes[node].PodNets {
			if pod.Addrs[family].IsValid() || !network.Range.IsValid() {
				continue
			}
			if free[network.Range] == nil {
				free[network.Range] = &allocator{network: network.Range, taken: owners}
			}
			addr, ok := free[network.Range].next("pod " + pod.Name())
			if !ok {
				a.fault(a.set.Fault(sources[i].object, "", "no address is left for pod %s in %s of %s", pod.Object.Name, network.Range, pod.Node))
			}
			pod.Addrs[family] = addr
		}
	}
}

// markRunning writes into the object what a kubelet reports of a running pod: Services choose their endpoints by it.
func markRunning(pod *Pod) {
	status := &pod.Object.Status
	*status = corev1.PodStatus{
		Phase:      corev1.PodRunning,
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}},
	}
	for _, addr := range pod.Addrs {
		status.PodIPs = append(status.PodIPs, corev1.PodIP{IP: addr.String()})
	}
	status.PodIP = status.PodIPs[0].IP
}
