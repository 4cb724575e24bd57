package conf_test

import (
	"strings"
	"testing"

	"github.com/podplumb/podplumb/examples/cni/conf"
)

func TestStockChainIsUnderstood(t *testing.T) {
	t.Parallel()
	n, err := conf.Parse([]byte(`{
		"cniVersion":"1.0.0","name":"mynet","type":"podplumb-cni","bridge":"cni0","isGateway":true,"ipMasq":true,"ipMasqBackend":"nftables","hairpinMode":true,
		"vlan":0,"vlanTrunk":[{"minID":10,"maxID":20},{"id":30}],"preserveDefaultVlan":false,
		"ipam":{"type":"host-local","subnet":"10.22.0.0/16","rangeStart":"10.22.1.1","ranges":[[{"subnet":"fd00::/64","gateway":"fd00::1"}]],"routes":[{"dst":"0.0.0.0/0"}],"resolvConf":"/etc/resolv.conf"},
		"capabilities":{"portMappings":true,"somethingNew":true},"snat":true,"conditionsV4":[],"markMasqBit":14,
		"ingressRate":800,"ingressBurst":8000,"sysctl":{"net.core.somaxconn":"500"},"txQLen":5,
		"args":{"cni":{"ips":["10.22.1.9"],"labels":[{"key":"a"}]},"other.org":{}},"vendor.org/key":1,
		"runtimeConfig":{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"TCP"}],"mac":"02:00:00:00:00:07","podAnnotations":{"x":"y"}},
		"prevResult":{"anything":[1]},"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	if n.Mode != conf.BridgeMode || !n.IsGateway || !*n.SNAT || *n.PreserveDefaultVLAN || len(n.VLANTrunk) != 2 || n.IngressRate != 800 {
		t.Errorf("%+v", n)
	}
	if len(n.IPAM.Ranges) != 2 || n.IPAM.Ranges[0][0].Subnet != "10.22.0.0/16" || n.IPAM.Ranges[0][0].RangeStart.String() != "10.22.1.1" {
		t.Errorf("%+v", n.IPAM)
	}
	if p := n.Runtime.PortMappings[0]; p.Protocol != "tcp" || p.HostPort != 8080 {
		t.Errorf("%+v", p)
	}
	if len(n.Valid) != 1 || n.Valid[0].IfName != "eth0" || len(n.PrevResult) == 0 || n.Args.CNI.IPs[0] != "10.22.1.9" {
		t.Errorf("%+v", n)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	n, err := conf.Parse([]byte(`{"cniVersion":"1.1.0","name":"n","type":"x","isDefaultGateway":true,"ipam":{"ranges":[[{"subnet":"10.1.0.0/24"}]]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if n.Bridge != "cni0" || !n.IsGateway || !*n.SNAT || !*n.PreserveDefaultVLAN || n.IPAM.Type != "host-local" || n.SourceRouting {
		t.Errorf("%+v", n)
	}
}

func TestEveryFaultIsNamed(t *testing.T) {
	t.Parallel()
	_, err := conf.Parse([]byte(`{"cniVersion":"1.1.0","name":"-n","type":"x","mode":"ptp","isGatewy":true,"brdige":"b","hairpinMode":true,"promiscMode":true,"vlan":5000,
		"vlanTrunk":[{},{"minID":9},{"minID":9,"maxID":3},{"id":0}],"mtu":10,"mac":"01:00:00:00:00:01","ipMasqBackend":"ipfw","externalSetMarkChain":"X","conditionsV4":["-s","1"],
		"disableContainerInterface":true,"ingressRate":5,"egressBurst":9,"sysctl":{"kernel.x":"1"},"table":0,
		"ipam":{"type":"dhcp","rangs":[],"ranges":[[{"subnett":"10.0.0.0/8"}]],"routes":[{"gw":"10.0.0.1"},{"dst":"::/0","gw":"10.0.0.1"}]},
		"runtimeConfig":{"portMappings":[{"hostPort":70000,"containerPort":0,"protocol":"icmp","hostIP":"x"},{"hostPort":1,"containerPort":1},{"hostPort":1,"containerPort":2,"protocol":"tcp"}],"ips":["nope"]}}`))
	if err == nil {
		t.Fatal("no fault found")
	}
	for _, want := range []string{
		`name: "-n"`, "isGatewy: unknown key (did you mean isGateway?)", "brdige: unknown key (did you mean bridge?)", "ipam.rangs: unknown key (did you mean ranges?)",
		"ipam.ranges[0][0].subnett: unknown key (did you mean subnet?)", "hairpinMode: excludes promiscMode", "hairpinMode: needs mode bridge", "vlan: 5000",
		"vlanTrunk[0]: needs an id", "vlanTrunk[1]: minID and maxID", "vlanTrunk[2]: minID 9", "vlanTrunk[3].id: 0", "mtu: 10", `mac: "01:`, `ipMasqBackend: "ipfw"`,
		"externalSetMarkChain", "conditionsV4", "ingressRate: 5 bit/s and", "ingressRate: 5 bit/s is less", "egressRate: 0", "disableContainerInterface: excludes ipam", "sysctl: kernel.x", "table: 0",
		`ipam.type: "dhcp"`, "ipam.routes[0].dst", "ipam.routes[1].gw", "portMappings[0].hostPort: 70000", "portMappings[0].containerPort: 0", `portMappings[0].protocol: "icmp"`,
		`portMappings[0].hostIP: "x"`, "portMappings[2]: maps the same host port as portMappings[1]", `runtimeConfig.ips[0]: "nope"`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
}

func TestWrongKindsAndSyntax(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"name":"n","mtu":"big"}`:               "mtu: is a string where a whole number is wanted",
		`{"name":"n","ipam":{"ranges":{}}}`:      "ipam.ranges: is an object where a list is wanted",
		"{\n\"name\":\"n\",\n}":                  "line 3",
		`{"name":"n","ipam":{"gateway":"10.x"}}`: "ipam.gateway: ParseAddr(\"10.x\")",
		`{"name":3,"mtu":"big","brdige":1}`:      "name: is a number",
	} {
		if _, err := conf.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// containerd writes the names of its own fields.
func TestRuntimeConfigOfContainerd(t *testing.T) {
	t.Parallel()
	n, err := conf.Parse([]byte(`{"cniVersion":"1.0.0","name":"n","type":"x","runtimeConfig":{
		"portMappings":[{"HostPort":8080,"ContainerPort":80,"Protocol":"TCP","HostIP":"10.0.0.1"}],"bandwidth":{"IngressRate":8000,"IngressBurst":80,"EgressRate":0,"EgressBurst":0}}}`))
	if err != nil {
		t.Fatal(err)
	}
	if p := n.Runtime.PortMappings[0]; p != (conf.PortMapping{HostPort: 8080, ContainerPort: 80, Protocol: "tcp", HostIP: "10.0.0.1"}) || n.Runtime.Bandwidth.IngressRate != 8000 {
		t.Errorf("%+v", n.Runtime)
	}
}
