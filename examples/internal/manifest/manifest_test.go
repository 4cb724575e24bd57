package manifest_test

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/podplumb/podplumb/examples/internal/manifest"
)

// read reads files given as name, content, name, content ...
func read(files ...string) (manifest.Set, error) {
	fsys := fstest.MapFS{}
	for i := 0; i < len(files); i += 2 {
		fsys[files[i]] = &fstest.MapFile{Data: []byte(files[i+1])}
	}
	return manifest.Read(fsys, ".")
}

const pod = `apiVersion: v1
kind: Pod
metadata: {name: %s}
spec: {containers: [{name: c}]}
`

func named(name string) string { return fmt.Sprintf(pod, name) }

func podNames(set manifest.Set) []string {
	var names []string
	for _, pod := range set.Pods {
		names = append(names, pod.Name)
	}
	return names
}

func TestReadForms(t *testing.T) {
	t.Parallel()
	asJSON := func(name string) string {
		return fmt.Sprintf("{\"apiVersion\":\"v1\",\n\t\"kind\":\"Pod\",\"metadata\":{\"name\":%q},\"spec\":{\"containers\":[{\"name\":\"c\"}]}}", name)
	}
	tests := map[string]struct {
		files []string
		pods  []string
	}{
		"several documents":               {[]string{"a.yaml", named("one") + "---\n" + named("two")}, []string{"one", "two"}},
		"leading and trailing markers":    {[]string{"a.yaml", "---\n" + named("one") + "---\n---\n" + named("two") + "---\n"}, []string{"one", "two"}},
		"comments between documents":      {[]string{"a.yaml", "# first\n---\n# second\n" + named("one") + "--- # third\n" + named("two")}, []string{"one", "two"}},
		"end markers":                     {[]string{"a.yaml", named("one") + "...\n" + named("two") + "...\n"}, []string{"one", "two"}},
		"directive":                       {[]string{"a.yaml", "%YAML 1.1\n---\n" + named("one")}, []string{"one"}},
		"windows line ends and byte mark": {[]string{"a.yaml", "\ufeffapiVersion: v1\r\nkind: Pod\r\nmetadata: {name: one}\r\nspec: {containers: [{name: c}]}\r\n---\r\n" + named("two")}, []string{"one", "two"}},
		"marker inside a block scalar": {[]string{"a.yaml", `apiVersion: v1
kind: Pod
metadata:
  name: one
  annotations:
    text: |
      before
      --- not a marker
      ---
      after
spec: {containers: [{name: c}]}
`}, []string{"one"}},
		"JSON with tabs":           {[]string{"a.json", asJSON("one")}, []string{"one"}},
		"JSON values in a row":     {[]string{"a.json", asJSON("one") + "\n" + asJSON("two") + "\n"}, []string{"one", "two"}},
		"JSON in a YAML file":      {[]string{"a.yml", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"one"},"spec":{"containers":[{"name":"c"}]}}`}, []string{"one"}},
		"List":                     {[]string{"a.json", `{"apiVersion":"v1","kind":"List","items":[` + asJSON("one") + "," + asJSON("two") + "]}"}, []string{"one", "two"}},
		"List in a List":           {[]string{"a.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"List","items":[` + asJSON("one") + "]}]}"}, []string{"one"}},
		"typed list without kinds": {[]string{"a.json", `{"apiVersion":"v1","kind":"PodList","metadata":{"resourceVersion":"7"},"items":[{"metadata":{"name":"one"},"spec":{"containers":[{"name":"c"}]}}]}`}, []string{"one"}},
		"empty List":               {[]string{"a.yaml", "apiVersion: v1\nkind: List\n"}, nil},
		"directories in sorted order": {[]string{"b.yaml", named("three"), "a/z.yaml", named("two"), "a/y/x.yml", named("one"), "c.JSON", asJSON("four"), "notes.txt", "not: [a manifest"},
			[]string{"one", "two", "three", "four"}},
		"same name in two namespaces": {[]string{"a.yaml", named("one") + "---\napiVersion: v1\nkind: Pod\nmetadata: {name: one, namespace: kube-system}\nspec: {containers: [{name: c}]}\n"}, []string{"one", "one"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := read(test.files...)
			require.NoError(t, err)
			require.Equal(t, test.pods, podNames(set))
			require.Empty(t, set.Warnings)
		})
	}
}

func TestReadSingleFile(t *testing.T) {
	t.Parallel()
	fsys := fstest.MapFS{"dir/pods.manifest": &fstest.MapFile{Data: []byte(named("one"))}, "dir/other.yaml": &fstest.MapFile{Data: []byte(named("two"))}}
	set, err := manifest.Read(fsys, "dir/pods.manifest")
	require.NoError(t, err)
	require.Equal(t, []string{"one"}, podNames(set))
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	set, err := read("a.yaml", `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.7, ports: [{port: 80}]}
---
apiVersion: v1
kind: Node
metadata: {name: worker}
spec: {podCIDR: 10.244.9.0/24}
`)
	require.NoError(t, err)
	deployment := set.Deployments[0]
	require.Equal(t, int32(1), *deployment.Spec.Replicas)
	require.Equal(t, "default", deployment.Namespace)
	require.Equal(t, corev1.ProtocolTCP, deployment.Spec.Template.Spec.Containers[0].Ports[0].Protocol)
	svc := set.Services[0]
	require.Equal(t, []string{"10.96.0.7"}, svc.Spec.ClusterIPs)
	require.Equal(t, corev1.ServiceTypeClusterIP, svc.Spec.Type)
	require.Equal(t, corev1.ServicePort{Port: 80, TargetPort: intstr.FromInt32(80), Protocol: corev1.ProtocolTCP}, svc.Spec.Ports[0])
	require.Equal(t, []string{"10.244.9.0/24"}, set.Nodes[0].Spec.PodCIDRs)
}

func TestWarnings(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, warning string }{
		"unknown kind": {"apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: web}\n",
			"a.yaml: document 1 (line 1): networking.k8s.io/v1 Ingress web: this kind is not run here and was passed over"},
		"old version of a known kind": {"apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: web}\n",
			"a.yaml: document 1 (line 1): extensions/v1beta1 Deployment web: this kind is not run here and was passed over"},
		"unknown kind in a List": {"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Secret}\n",
			"a.yaml: document 1 (line 1): items[0]: v1 Secret: this kind is not run here and was passed over"},
		"undeclared namespace": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec: {containers: [{name: c}]}\n",
			`a.yaml: document 1 (line 1): Pod shop/a: no document declares the namespace "shop"; it is assumed to exist`},
		"host network": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {hostNetwork: true, containers: [{name: c}]}\n",
			"a.yaml: document 1 (line 1): Pod default/a: spec.hostNetwork: the pod has no network of its own and is not run"},
		"affinity rules": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {affinity: {}, containers: [{name: c}]}\n",
			"a.yaml: document 1 (line 1): Pod default/a: spec: affinity and topologySpreadConstraints are not looked at: pods are spread evenly"},
		"host port": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, ports: [{containerPort: 1, hostPort: 2}]}]}\n",
			"a.yaml: document 1 (line 1): Pod default/a: spec.containers[0].ports[0].hostPort: host ports are not opened"},
		"SCTP": {"apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: c, ports: [{containerPort: 1, protocol: SCTP}]}]}\n",
			"a.yaml: document 1 (line 1): Pod default/a: spec.containers[0].ports[0]: nothing listens on SCTP ports here"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := read("a.yaml", test.text)
			require.NoError(t, err)
			require.Equal(t, []string{test.warning}, set.Warnings)
		})
	}
}

func TestEveryFaultAtOnce(t *testing.T) {
	t.Parallel()
	_, err := read(
		"a.yaml", named("Bad_Name")+"---\n: [\n---\n"+named("fine")+"---\nkind: Pod\n",
		"b.json", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"x"},"spec":{"containers":[{"name":1,"ports":[{"containerPort":"80"},{"containerPort":99999999999}]}]}}`)
	require.Error(t, err)
	var places []string
	for _, err := range err.(interface{ Unwrap() []error }).Unwrap() {
		for _, leaf := range leaves(err) {
			var fault *manifest.Error
			require.ErrorAs(t, leaf, &fault)
			places = append(places, fmt.Sprintf("%s:%d:%d %s", fault.Source.File, fault.Source.Document, fault.Source.Line, fault.Field))
		}
	}
	require.Equal(t, []string{
		"a.yaml:1:1 metadata.name", "a.yaml:2:6 ", "a.yaml:4:13 apiVersion",
		"b.json:1:1 spec.containers[0].name", "b.json:1:1 spec.containers[0].ports[0].containerPort", "b.json:1:1 spec.containers[0].ports[1].containerPort",
	}, places)
}

func leaves(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var list []error
	for _, err := range joined.Unwrap() {
		list = append(list, leaves(err)...)
	}
	return list
}

func TestNothingToRead(t *testing.T) {
	t.Parallel()
	_, err := read("readme.txt", "hello")
	require.EqualError(t, err, ".: no .yaml, .yml or .json file")
	_, err = manifest.Read(fstest.MapFS{}, "missing")
	require.ErrorIs(t, err, os.ErrNotExist)
	var fault *manifest.Error
	require.False(t, errors.As(err, &fault))
}
