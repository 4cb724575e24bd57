package manifest_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/manifest"
)

func podWith(spec string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: " + spec + "\n"
}

func annotated(annotations string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: a, annotations: {" + annotations + "}}\nspec: {containers: [{name: c}]}\n"
}

func deploymentWith(spec string) string {
	return "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\nspec: " + spec + "\n"
}

func serviceWith(spec string) string {
	return "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: " + spec + "\n"
}

func nodeWith(rest string) string {
	return "apiVersion: v1\nkind: Node\nmetadata: {name: a}\n" + rest + "\n"
}

const template = "template: {metadata: {labels: {app: x}}, spec: {containers: [{name: c}]}}"

// Each case is one file and the faults in it, without the name of the file and with the number of the document only.
func TestMalformed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text   string
		faults []string
	}{
		// What is no object at all.
		"broken YAML":         {"apiVersion: v1\nkind: [Pod\n", []string{"document 1 (line 1): yaml: line 2: did not find expected ',' or ']'"}},
		"duplicate key":       {"apiVersion: v1\nkind: Pod\nkind: Pod\n", []string{`document 1 (line 1): yaml: unmarshal errors:` + "\n  line 3: key \"kind\" already set in map"}},
		"a list":              {"- a\n- b\n", []string{"document 1 (line 1): not an object with apiVersion and kind"}},
		"a word":              {"hello\n", []string{"document 1 (line 1): not an object with apiVersion and kind"}},
		"null":                {"null\n", []string{"document 1 (line 1): not an object with apiVersion and kind"}},
		"no apiVersion":       {"kind: Pod\n", []string{"document 1 (line 1): apiVersion: required"}},
		"apiVersion a number": {"apiVersion: 1\nkind: Pod\n", []string{"document 1 (line 1): apiVersion: must be a string, not 1"}},
		"no kind":             {"apiVersion: v1\n", []string{"document 1 (line 1): kind: required"}},
		"empty kind":          {"apiVersion: v1\nkind: ''\n", []string{"document 1 (line 1): kind: required"}},
		"items no list":       {"apiVersion: v1\nkind: List\nitems: {a: b}\n", []string{"document 1 (line 1): items: must be a list of objects"}},
		"item no object":      {"apiVersion: v1\nkind: List\nitems: [7]\n", []string{"document 1 (line 1): items[0]: not an object with apiVersion and kind"}},
		"item at fault": {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata: {name: a}\n",
			[]string{"document 1 (line 1): items[0]: Pod default/a: spec.containers: required"}},
		"in a later document": {named("fine") + "---\n\n# a comment\n" + podWith("{}"), []string{"document 2 (line 8): Pod default/a: spec.containers: required"}},

		// Fields that the kind does not have, and values of the wrong type.
		"unknown field":       {podWith("{containers: [{name: c, port: 80}]}"), []string{"document 1 (line 1): Pod default/a: spec.containers[0].port: unknown field"}},
		"field in wrong case": {podWith("{nodename: x, containers: [{name: c}]}"), []string{"document 1 (line 1): Pod default/a: spec.nodename: unknown field"}},
		"text for a number":   {podWith("{containers: [{name: c}, {name: d, ports: [{containerPort: http}]}]}"), []string{`document 1 (line 1): Pod default/a: spec.containers[1].ports[0].containerPort: must be a whole number of 32 bits, not "http"`}},
		"fraction":            {podWith("{containers: [{name: c, ports: [{containerPort: 1.5}]}]}"), []string{"document 1 (line 1): Pod default/a: spec.containers[0].ports[0].containerPort: must be a whole number of 32 bits, not 1.5"}},
		"number for a text":   {podWith("{nodeName: 7, containers: [{name: c}]}"), []string{"document 1 (line 1): Pod default/a: spec.nodeName: must be a string, not 7"}},
		"text for a bool":     {podWith("{hostNetwork: 'yes', containers: [{name: c}]}"), []string{`document 1 (line 1): Pod default/a: spec.hostNetwork: must be true or false, not "yes"`}},
		"object for a list":   {podWith("{containers: {name: c}}"), []string{`document 1 (line 1): Pod default/a: spec.containers: must be a list, not {"name":"c"}`}},
		"text for an object":  {podWith("all"), []string{`document 1 (line 1): Pod default/a: spec: must be an object, not "all"`}},
		"label not a text":    {"apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {count: 1, ok: 'true'}}\nspec: {containers: [{name: c}]}\n", []string{`document 1 (line 1): Pod default/a: metadata.labels["count"]: must be a string, not 1`}},
		"quantity":            {podWith("{containers: [{name: c, resources: {limits: {memory: much}}}]}"), []string{`document 1 (line 1): Pod default/a: spec.containers[0].resources.limits["memory"]: "much": quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'`}},
		"target port a bool":  {serviceWith("{ports: [{port: 80, targetPort: true}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[0].targetPort: must be a whole number of 32 bits, not true"}},
		"two faults in one":   {podWith("{nodeName: 7, containers: [{name: c, image: 8}]}"), []string{"document 1 (line 1): Pod default/a: spec.containers[0].image: must be a string, not 8", "document 1 (line 1): Pod default/a: spec.nodeName: must be a string, not 7"}},

		// Names and labels.
		"no name":             {"apiVersion: v1\nkind: Namespace\n", []string{"document 1 (line 1): Namespace: metadata.name: required"}},
		"generated name":      {"apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\nspec: {containers: [{name: c}]}\n", []string{"document 1 (line 1): Pod: metadata.generateName: not supported: give the object a name"}},
		"bad name":            {named("Web"), []string{"document 1 (line 1): Pod default/Web: metadata.name: a lowercase RFC 1123 subdomain must consist of"}},
		"bad service name":    {strings.Replace(serviceWith("{ports: [{port: 80}]}"), "name: a", "name: 1a", 1), []string{"document 1 (line 1): Service default/1a: metadata.name: a DNS-1035 label must consist of"}},
		"bad namespace name":  {"apiVersion: v1\nkind: Namespace\nmetadata: {name: a_b}\n", []string{"document 1 (line 1): Namespace a_b: metadata.name: a lowercase RFC 1123 label must consist of"}},
		"bad namespace":       {strings.Replace(named("a"), "name: a", "name: a, namespace: A", 1), []string{"document 1 (line 1): Pod A/a: metadata.namespace: a lowercase RFC 1123 label must consist of"}},
		"node in a namespace": {"apiVersion: v1\nkind: Node\nmetadata: {name: a, namespace: b}\n", []string{"document 1 (line 1): Node b/a: metadata.namespace: must not be set: this kind belongs to no namespace"}},
		"bad label key":       {strings.Replace(named("a"), "name: a", "name: a, labels: {'a b': c}", 1), []string{`document 1 (line 1): Pod default/a: metadata.labels["a b"]: name part must consist of`}},
		"bad label value":     {strings.Replace(named("a"), "name: a", "name: a, labels: {a: b c}", 1), []string{`document 1 (line 1): Pod default/a: metadata.labels["a"]: a valid label must be an empty string or consist of`}},
		"twice":               {named("a") + "---\n" + named("a"), []string{"document 2 (line 6): Pod default/a: metadata.name: already used in a.yaml: document 1 (line 1)"}},

		// Pods.
		"no containers":        {podWith("{}"), []string{"document 1 (line 1): Pod default/a: spec.containers: required"}},
		"container no name":    {podWith("{containers: [{image: x}]}"), []string{"document 1 (line 1): Pod default/a: spec.containers[0].name: required"}},
		"container name twice": {podWith("{initContainers: [{name: c}], containers: [{name: c}]}"), []string{`document 1 (line 1): Pod default/a: spec.containers[0].name: "c" is used twice`}},
		"port out of range":    {podWith("{containers: [{name: c, ports: [{containerPort: 65536}, {containerPort: 0}]}]}"), []string{"document 1 (line 1): Pod default/a: spec.containers[0].ports[0].containerPort: 65536 is not between 1 and 65535", "document 1 (line 1): Pod default/a: spec.containers[0].ports[1].containerPort: 0 is not between 1 and 65535"}},
		"bad protocol":         {podWith("{containers: [{name: c, ports: [{containerPort: 1, protocol: tcp}]}]}"), []string{`document 1 (line 1): Pod default/a: spec.containers[0].ports[0].protocol: "tcp" is not TCP, UDP or SCTP`}},
		"bad port name":        {podWith("{containers: [{name: c, ports: [{containerPort: 1, name: a_b}]}]}"), []string{"document 1 (line 1): Pod default/a: spec.containers[0].ports[0].name: must contain only alpha-numeric characters"}},
		"port name twice":      {podWith("{containers: [{name: c, ports: [{containerPort: 1, name: x}]}, {name: d, ports: [{containerPort: 2, name: x}]}]}"), []string{`document 1 (line 1): Pod default/a: spec.containers[1].ports[0].name: "x" is used twice in the pod`}},
		"one port space":       {podWith("{containers: [{name: c, ports: [{containerPort: 80}]}, {name: d, ports: [{containerPort: 80, protocol: UDP}, {containerPort: 80}]}]}"), []string{`document 1 (line 1): Pod default/a: spec.containers[1].ports[1].containerPort: TCP 80 is already taken by container "c": the containers of a pod share one port space`}},
		"bad node selector":    {podWith("{nodeSelector: {a: '?'}, containers: [{name: c}]}"), []string{`document 1 (line 1): Pod default/a: spec.nodeSelector["a"]: a valid label must be an empty string or consist of`}},

		// Annotations.
		"unknown annotation":    {annotated("podplumb.github.io/pod-ip: 10.244.1.5"), []string{`document 1 (line 1): Pod default/a: metadata.annotations["podplumb.github.io/pod-ip"]: unknown annotation: podplumb.github.io/pod-ips, podplumb.github.io/command and podplumb.github.io/command.CONTAINER are known`}},
		"no address":            {annotated("podplumb.github.io/pod-ips: here"), []string{`document 1 (line 1): Pod default/a: metadata.annotations["podplumb.github.io/pod-ips"]: "here" is not an IP address`}},
		"useless address":       {annotated("podplumb.github.io/pod-ips: 127.0.0.1"), []string{`document 1 (line 1): Pod default/a: metadata.annotations["podplumb.github.io/pod-ips"]: 127.0.0.1 cannot be used: unspecified, loopback, multicast or link-local`}},
		"two of a family":       {annotated("podplumb.github.io/pod-ips: '10.244.1.5, 10.244.1.6'"), []string{`document 1 (line 1): Pod default/a: metadata.annotations["podplumb.github.io/pod-ips"]: two addresses of one family`}},
		"empty command":         {annotated("podplumb.github.io/command: ' '"), []string{`document 1 (line 1): Pod default/a: metadata.annotations["podplumb.github.io/command"]: empty command`}},
		"command of no one":     {annotated("podplumb.github.io/command.x: 'true'"), []string{`document 1 (line 1): Pod default/a: metadata.annotations["podplumb.github.io/command.x"]: the pod has no container "x"`}},
		"address for a replica": {deploymentWith("{replicas: 2, selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}, annotations: {podplumb.github.io/pod-ips: 10.244.1.5}}, spec: {containers: [{name: c}]}}}"), []string{`document 1 (line 1): Deployment default/a: spec.template.metadata.annotations["podplumb.github.io/pod-ips"]: 2 replicas cannot share one address`}},

		// Deployments.
		"negative replicas":   {deploymentWith("{replicas: -1, selector: {matchLabels: {app: x}}, " + template + "}"), []string{"document 1 (line 1): Deployment default/a: spec.replicas: -1 is negative"}},
		"no selector":         {deploymentWith("{" + template + "}"), []string{"document 1 (line 1): Deployment default/a: spec.selector: required"}},
		"empty selector":      {deploymentWith("{selector: {}, " + template + "}"), []string{"document 1 (line 1): Deployment default/a: spec.selector: an empty selector would own every pod"}},
		"bad operator":        {deploymentWith("{selector: {matchExpressions: [{key: app, operator: Like, values: [x]}]}, " + template + "}"), []string{`document 1 (line 1): Deployment default/a: spec.selector: "Like" is not a valid label selector operator`}},
		"selects others":      {deploymentWith("{selector: {matchLabels: {app: other}}, " + template + "}"), []string{"document 1 (line 1): Deployment default/a: spec.template.metadata.labels: spec.selector (app=other) does not select them"}},
		"fault in a template": {deploymentWith("{selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: x}}, spec: {}}}"), []string{"document 1 (line 1): Deployment default/a: spec.template.spec.containers: required"}},

		// Services.
		"no ports":                {serviceWith("{}"), []string{"document 1 (line 1): Service default/a: spec.ports: required"}},
		"service port range":      {serviceWith("{ports: [{port: 70000}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[0].port: 70000 is not between 1 and 65535"}},
		"target port range":       {serviceWith("{ports: [{port: 80, targetPort: -1}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[0].targetPort: -1 is not between 1 and 65535"}},
		"target port name":        {serviceWith("{ports: [{port: 80, targetPort: a_b}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[0].targetPort: must contain only alpha-numeric characters"}},
		"ports without names":     {serviceWith("{ports: [{port: 80}, {name: b, port: 81}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[0].name: required when there are several ports"}},
		"service port name":       {serviceWith("{ports: [{name: A, port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[0].name: a lowercase RFC 1123 label must consist of"}},
		"service port name twice": {serviceWith("{ports: [{name: b, port: 80}, {name: b, port: 81}]}"), []string{`document 1 (line 1): Service default/a: spec.ports[1].name: "b" is used twice`}},
		"service port twice":      {serviceWith("{ports: [{name: a, port: 80}, {name: b, port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.ports[1].port: TCP 80 is used twice"}},
		"service protocol":        {serviceWith("{ports: [{port: 80, protocol: HTTP}]}"), []string{`document 1 (line 1): Service default/a: spec.ports[0].protocol: "HTTP" is not TCP, UDP or SCTP`}},
		"external name":           {serviceWith("{type: ExternalName, externalName: 'http://example.com'}"), []string{`document 1 (line 1): Service default/a: spec.externalName: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')`}},
		"type":                    {serviceWith("{type: Internal, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.type: "Internal" is not ClusterIP, NodePort, LoadBalancer or ExternalName`}},
		"cluster IP":              {serviceWith("{clusterIP: 10.96.0.300, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.clusterIP: "10.96.0.300" is not an IP address`}},
		"useless cluster IP":      {serviceWith("{clusterIPs: ['ff02::1'], ports: [{port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.clusterIPs[0]: ff02::1 cannot be used: unspecified, loopback, multicast or link-local"}},
		"cluster IPs disagree":    {serviceWith("{clusterIP: 10.96.0.1, clusterIPs: [10.96.0.2], ports: [{port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.clusterIP: must be the same as spec.clusterIPs[0]"}},
		"cluster IPs of a family": {serviceWith("{clusterIPs: [10.96.0.2, 10.96.0.3], ports: [{port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.clusterIPs[1]: second address of the same family"}},
		"three cluster IPs":       {serviceWith("{clusterIPs: [10.96.0.2, 'fd00::1', 'fd00::2'], ports: [{port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.clusterIPs: at most one address of each family"}},
		"None and an address":     {serviceWith("{clusterIPs: [None, 10.96.0.3], ports: [{port: 80}]}"), []string{"document 1 (line 1): Service default/a: spec.clusterIPs[0]: None must stand alone"}},
		"families":                {serviceWith("{ipFamilies: [IPv5, IPv4, IPv4], ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.ipFamilies[0]: "IPv5" is not IPv4 or IPv6`, "document 1 (line 1): Service default/a: spec.ipFamilies[2]: IPv4 is named twice"}},
		"family policy":           {serviceWith("{ipFamilyPolicy: Both, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.ipFamilyPolicy: "Both" is not SingleStack, PreferDualStack or RequireDualStack`}},
		"node port":               {serviceWith("{type: NodePort, ports: [{port: 80, nodePort: 70000}]}"), []string{`document 1 (line 1): Service default/a: spec.ports[0].nodePort: 70000 is not between 1 and 65535`}},
		"node port of another":    {serviceWith("{ports: [{port: 80, nodePort: 30080}]}"), []string{`document 1 (line 1): Service default/a: spec.ports[0].nodePort: a ClusterIP has none: the type is to be NodePort or LoadBalancer`}},
		"external IP":             {serviceWith("{externalIPs: [127.0.0.1], ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.externalIPs[0]: 127.0.0.1 cannot be used: unspecified, loopback, multicast or link-local`}},
		"source range":            {serviceWith("{type: LoadBalancer, loadBalancerSourceRanges: [203.0.113.0], ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.loadBalancerSourceRanges[0]: "203.0.113.0" is not an address range such as 203.0.113.0/24`}},
		"external policy":         {serviceWith("{externalTrafficPolicy: Local, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.externalTrafficPolicy: Local: nobody outside can reach a ClusterIP without externalIPs`}},
		"affinity for years":      {serviceWith("{sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 100000000}}, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.sessionAffinityConfig.clientIP.timeoutSeconds: 100000000 is not between 1 and 86400`}},
		"affinity":                {serviceWith("{sessionAffinity: Cookie, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.sessionAffinity: "Cookie" is not None or ClientIP`}},
		"bad selector":            {serviceWith("{selector: {a: '?'}, ports: [{port: 80}]}"), []string{`document 1 (line 1): Service default/a: spec.selector["a"]: a valid label must be an empty string or consist of`}},

		// Nodes.
		"pod range":               {nodeWith("spec: {podCIDR: 10.244.1.0}"), []string{`document 1 (line 1): Node a: spec.podCIDR: "10.244.1.0" is not an address range such as 10.244.1.0/24 or fd00:10:244:1::/64`}},
		"pod range with bits set": {nodeWith("spec: {podCIDRs: [10.244.1.5/24]}"), []string{"document 1 (line 1): Node a: spec.podCIDRs[0]: 10.244.1.5/24 has bits set behind its prefix: 10.244.1.0/24 was meant?"}},
		"pod range too small":     {nodeWith("spec: {podCIDRs: [10.244.1.0/31]}"), []string{"document 1 (line 1): Node a: spec.podCIDRs[0]: 10.244.1.0/31 has no room for a gateway and a pod"}},
		"pod ranges of a family":  {nodeWith("spec: {podCIDRs: [10.244.1.0/24, 10.244.2.0/24]}"), []string{"document 1 (line 1): Node a: spec.podCIDRs[1]: second range of the same address family"}},
		"pod ranges disagree":     {nodeWith("spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.2.0/24]}"), []string{"document 1 (line 1): Node a: spec.podCIDR: must be the same as spec.podCIDRs[0]"}},
		"node address":            {nodeWith("status: {addresses: [{type: Hostname, address: a}, {type: InternalIP, address: a}]}"), []string{`document 1 (line 1): Node a: status.addresses[1].address: "a" is not an IP address`}},
		"useless node address":    {nodeWith("status: {addresses: [{type: InternalIP, address: 'fe80::1'}]}"), []string{"document 1 (line 1): Node a: status.addresses[0].address: fe80::1 cannot be used: unspecified, loopback, multicast or link-local"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set, err := read("a.yaml", test.text)
			require.Error(t, err)
			require.Equal(t, manifest.Set{}, set)
			faults := leaves(err)
			require.Lenf(t, faults, len(test.faults), "%v", err)
			for i, want := range test.faults {
				// Apimachinery's long explanations are its own: their beginning is enough.
				require.Truef(t, strings.HasPrefix(faults[i].Error(), "a.yaml: "+want), "%s\nis not\na.yaml: %s", faults[i], want)
			}
		})
	}
}

func TestMalformedJSON(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ text, fault string }{
		"syntax":          {"{\"apiVersion\":\"v1\",\n\"kind\":}", "a.json: document 1 (line 2): invalid character '}' looking for beginning of value"},
		"cut off":         {"{\"apiVersion\":\"v1\"", "a.json: document 1 (line 1): unexpected EOF"},
		"second value":    {"{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\"}\n[", "a.json: document 2 (line 2): unexpected EOF"},
		"duplicate field": {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","name":"d"}]}}`, "a.json: document 1 (line 1): Pod default/a: spec.containers[0].name: duplicate field"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := read("a.json", test.text)
			require.EqualError(t, err, test.fault)
		})
	}
}
