package layout

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/klog/v2"
)

// schedule gives every pod a node: the one that spec.nodeName names, else the one with the fewest pods among those that
// its nodeSelector and tolerations allow, which goes round when all are equal.
func (a *arranger) schedule(sources []source) {
	load := make([]int, len(a.cluster.Nodes))
	for i := range a.cluster.Pods { // pods that name their node go first: others spread around them
		pod := &a.cluster.Pods[i]
		if pod.Object.Spec.NodeName == "" {
			continue
		}
		node, ok := a.nodeNames[pod.Object.Spec.NodeName]
		if !ok {
			a.fault(a.set.Fault(sources[i].object, sources[i].path+"spec.nodeName", "there is no node %q: there are %s",
				pod.Object.Spec.NodeName, a.names()))
			continue
		}
		load[node]++
		pod.Node = pod.Object.Spec.NodeName
	}
	for i := range a.cluster.Pods {
		pod := &a.cluster.Pods[i]
		if pod.Object.Spec.NodeName != "" {
			continue
		}
		best := -1
		var refusals []string
		for j := range a.cluster.Nodes {
			if refusal := refuses(&a.cluster.Nodes[j].Object, &pod.Object.Spec); refusal != "" {
				refusals = append(refusals, a.cluster.Nodes[j].Name()+" "+refusal)
			} else if best < 0 || load[j] < load[best] {
				best = j
			}
		}
		if best < 0 {
			field := sources[i].path + "spec"
			if len(pod.Object.Spec.NodeSelector) > 0 {
				field += ".nodeSelector"
			}
			a.fault(a.set.Fault(sources[i].object, field, "no node takes pod %s: %s", pod.Object.Name, strings.Join(refusals, "; ")))
			continue
		}
		load[best]++
		pod.Node = a.cluster.Nodes[best].Name()
		pod.Object.Spec.NodeName = pod.Node
	}
}

func (a *arranger) names() string {
	var names []string
	for _, node := range a.cluster.Nodes {
		names = append(names, node.Name())
	}
	return strings.Join(names, ", ")
}

// refuses says why the node does not take the pod, or "".
func refuses(node *corev1.Node, pod *corev1.PodSpec) string {
	if !labels.SelectorFromSet(pod.NodeSelector).Matches(labels.Set(node.Labels)) {
		return "does not have the labels"
	}
	if node.Spec.Unschedulable {
		return "is unschedulable"
	}
	for _, taint := range node.Spec.Taints {
		if taint.Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		tolerated := false
		for _, toleration := range pod.Tolerations {
			tolerated = tolerated || toleration.ToleratesTaint(klog.Background(), &taint, true)
		}
		if !tolerated {
			return fmt.Sprintf("has the taint %s", taint.ToString())
		}
	}
	return ""
}
