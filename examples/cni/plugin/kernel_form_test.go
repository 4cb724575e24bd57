package plugin_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/netns"
)

// TestDelForms calls DEL in all the forms that runtimes do.
func TestDelForms(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	published := n.conf.with("runtimeConfig", ports(8080, 80, "tcp"))
	n.ok(t, "ADD", n.pod(t), nil)
	before := n.snapshot(t)
	for name, del := range map[string]func(p *pod){
		"before ADD":      func(p *pod) { n.ok(t, "DEL", n.pod(t), published) },
		"twice":           func(p *pod) { n.ok(t, "DEL", p, published) },
		"empty CNI_NETNS": func(p *pod) { n.ok(t, "DEL", p, published, "CNI_NETNS=") },
		"namespace gone": func(p *pod) {
			require.NoError(t, p.ns.Close())
			require.NoError(t, netns.Unpin(p.path))
		},
		"file without a namespace": func(p *pod) {
			require.NoError(t, p.ns.Close())
			require.NoError(t, netns.Unpin(p.path))
			require.NoError(t, os.WriteFile(p.path, nil, 0o600))
		},
		"without what ADD was asked for": func(p *pod) { n.ok(t, "DEL", p, n.conf.with("runtimeConfig", nil)) },
		"with a prevResult": func(p *pod) {
			n.ok(t, "DEL", p, published.with("prevResult", config{"cniVersion": "1.1.0"}))
		},
		"configuration broken since": func(p *pod) { n.ok(t, "DEL", p, published.with("brigde", "x")) },
		"interface gone":             func(p *pod) { in(t, p.ns, "ip", "link", "del", "eth0") },
	} {
		p := n.pod(t)
		n.ok(t, "ADD", p, published)
		del(p)
		n.ok(t, "DEL", p, published)
		require.Equal(t, before, n.snapshot(t), name)
	}
}

// TestDelKeepsOthers has DEL with a configuration of another network leave the container's own alone.
func TestDelKeepsOthers(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	n.ok(t, "ADD", p, nil)
	before := n.snapshot(t)
	other := n.conf.with("name", "other").with("ipam", nil)
	n.ok(t, "DEL", p, other)
	require.Equal(t, before, n.snapshot(t))
	n.ok(t, "CHECK", p, nil)
}

// TestAddAgain has a second ADD of the same container take the place of the first.
func TestAddAgain(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	p := n.pod(t)
	published := n.conf.with("runtimeConfig", ports(8080, 80, "tcp"))
	n.ok(t, "ADD", p, published)
	before := n.snapshot(t)
	n.ok(t, "ADD", p, published)
	n.ok(t, "CHECK", p, published)
	require.Equal(t, strings.Count(before, "\n"), strings.Count(n.snapshot(t), "\n"))
}

// TestVersions has results in the form of each version.
func TestVersions(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for _, v := range []string{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		p := n.pod(t)
		c := n.conf.with("cniVersion", v)
		var result struct {
			CNIVersion string
			Interfaces []struct{ Name, Sandbox string }
			IPs        []struct {
				Version string
				Address string
			}
		}
		require.NoError(t, json.Unmarshal([]byte(n.ok(t, "ADD", p, c).stdout), &result))
		require.Equal(t, v, result.CNIVersion)
		require.Len(t, result.Interfaces, 3)
		require.Equal(t, p.path, result.Interfaces[2].Sandbox)
		require.Equal(t, strings.HasPrefix(v, "0."), result.IPs[0].Version == "4", v)
		if v >= "0.4.0" {
			n.ok(t, "CHECK", p, c)
		} else {
			n.refused(t, 1, "CHECK", p, c)
		}
		n.ok(t, "DEL", p, c)
	}
	a := n.raw(t, `{"cniVersion":"1.1.0"}`, "CNI_COMMAND=VERSION")
	require.Equal(t, 0, a.code)
	require.JSONEq(t, `{"cniVersion":"1.1.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}`, a.stdout)
	n.refused(t, 1, "ADD", n.pod(t), n.conf.with("cniVersion", "0.2.0"))
	n.refused(t, 1, "GC", nil, n.conf.with("cniVersion", "1.0.0"))
}

// TestErrors has each kind of fault answered with its code and a remedy, and nothing changed.
func TestErrors(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	holder := n.pod(t)
	n.ok(t, "ADD", holder, n.conf.with("runtimeConfig", ports(8080, 80, "tcp")))
	ipam := n.conf["ipam"].(config)
	ranges := func(sets ...[]any) config {
		var list []any
		for _, s := range sets {
			list = append(list, s)
		}
		return n.conf.with("ipam", ipam.with("ranges", list))
	}
	small := ranges([]any{config{"subnet": "10.99.0.0/30"}}).with("name", "small").with("bridge", "small0")
	n.ok(t, "ADD", holder, small, "CNI_IFNAME=eth1")
	before := n.snapshot(t)
	for _, x := range []struct {
		name  string
		code  uint
		conf  config
		env   []string
		words []string
	}{
		{"unknown key", 7, n.conf.with("brigde", "x"), nil, []string{"brigde: unknown key (did you mean bridge?)"}},
		{"several faults", 7, n.conf.with("mtu", 5).with("vlan", 5000), nil, []string{"mtu: 5", "vlan: 5000"}},
		{"no ranges", 7, ranges(), nil, []string{"ipam.ranges: is required"}},
		{"host bits", 7, ranges([]any{config{"subnet": "10.1.0.5/16"}}), nil, []string{"ipam.ranges[0][0].subnet", "did you mean 10.1.0.0/16"}},
		{"overlap", 7, ranges([]any{config{"subnet": "10.1.0.0/16"}}, []any{config{"subnet": "10.1.2.0/24"}}), nil, []string{"overlaps"}},
		{"mixed families", 7, ranges([]any{config{"subnet": "10.1.0.0/16"}, config{"subnet": "fd00::/64"}}), nil, []string{"another family"}},
		{"conditions", 7, n.conf.with("conditionsV4", []string{"-s", "10.0.0.0/8"}), nil, []string{"conditionsV4", "hostIP"}},
		{"unknown args", 4, nil, []string{"CNI_ARGS=K8S_POD_NAME=x"}, []string{"K8S_POD_NAME", "IgnoreUnknown"}},
		{"bad args", 4, nil, []string{"CNI_ARGS=IP=ten;MAC=x;nonsense"}, []string{`"ten"`, `"x"`, `"nonsense"`}},
		{"no container", 4, nil, []string{"CNI_CONTAINERID="}, []string{"CNI_CONTAINERID"}},
		{"no namespace", 3, nil, []string{"CNI_NETNS=/nowhere"}, []string{"/nowhere"}},
		{"not a namespace", 8, nil, []string{"CNI_NETNS=/etc/passwd"}, []string{"/etc/passwd"}},
		{"the node's namespace", 8, nil, []string{"CNI_NETNS=/proc/self/ns/net"}, []string{"node's own"}},
		{"port taken", 100, n.conf.with("runtimeConfig", ports(8080, 80, "tcp")), nil, []string{"0.0.0.0:8080/tcp", holder.id, "another hostPort"}},
		{"port of an address taken", 100, n.conf.with("runtimeConfig", config{"portMappings": []any{config{"hostPort": 8080, "containerPort": 80, "hostIP": "192.0.2.7"}}}), nil, []string{"192.0.2.7:8080/tcp"}},
		{"address taken", 101, n.conf.with("runtimeConfig", config{"ips": []string{"10.88.0.2"}}), nil, []string{"10.88.0.2", "taken"}},
		{"address outside", 7, n.conf.with("runtimeConfig", config{"ips": []string{"10.77.0.2"}}), nil, []string{"10.77.0.2", "in no range"}},
		{"full", 11, small, nil, []string{"10.99.0.2", "no address is free", "another range"}},
		{"no bridge", 102, n.conf.with("bridge", "theirs0"), nil, []string{"theirs0", "taken"}},
		{"interface of others", 102, nil, []string{"CNI_IFNAME=theirs1"}, []string{"theirs1", "taken"}},
		{"bridge with another address", 103, ranges([]any{config{"subnet": "10.66.0.0/16"}}), nil, []string{"cni0", "10.88.0.1/16", "forceAddress"}},
		{"data that cannot be written", 5, n.conf.with("dataDir", "/proc/nothing"), nil, []string{"/proc/nothing", "dataDir"}},
	} {
		if x.name == "no bridge" {
			in(t, n.ns, "ip", "link", "add", "theirs0", "type", "ifb")
			before = n.snapshot(t)
		}
		p := n.pod(t)
		in(t, p.ns, "ip", "link", "add", "theirs1", "type", "bridge")
		n.call(t, "ADD", p, x.conf, x.env...).refused(t, x.code, x.words...)
		require.Equal(t, before, n.snapshot(t), x.name)
	}
	n.refused(t, 104, "CHECK", n.pod(t), nil, "no record")
	n.refused(t, 7, "DEL", n.pod(t), n.conf.with("brigde", "x"), "brigde")
}

// TestAskedAddresses gives a container the addresses and the MAC address that it asks for, wherever it does so.
func TestAskedAddresses(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	for i, x := range []struct {
		conf config
		env  string
	}{
		{n.conf.with("runtimeConfig", config{"ips": []string{"10.88.7.1/16", "fd88::71"}, "mac": "02:00:00:00:71:00"}), ""},
		{n.conf.with("args", config{"cni": config{"ips": []string{"10.88.7.1", "fd88::71"}, "mac": "02:00:00:00:71:00", "else": 1}}), ""},
		{n.conf, "IgnoreUnknown=1;IP=10.88.7.1,fd88::71;MAC=02:00:00:00:71:00;K8S_POD_NAME=x"},
		{n.conf.with("mac", "02:00:00:00:71:00").with("runtimeConfig", config{"ips": []string{"10.88.7.1", "fd88::71"}, "aliases": []string{"x"}, "podAnnotations": 1}), ""},
		{n.conf.with("mac", "02:00:00:00:71:00").with("ipam", config{"type": "static", "addresses": []any{config{"address": "10.88.7.1/16"}, config{"address": "fd88::71/64"}}}), ""},
		{n.conf.with("mac", "02:00:00:00:71:00").with("ipam", config{"type": "static"}).with("runtimeConfig", config{"ips": []string{"10.88.7.1/16", "fd88::71/64"}}), ""},
	} {
		p := n.pod(t)
		r := n.add(t, p, x.conf, "CNI_ARGS="+x.env)
		v4, v6 := addrs(t, r)
		require.Equal(t, []string{"10.88.7.1", "fd88::71", "02:00:00:00:71:00"}, []string{v4, v6, r.Interfaces[2].Mac}, i)
		require.Contains(t, in(t, p.ns, "ip", "addr"), "02:00:00:00:71:00")
		n.ok(t, "CHECK", p, x.conf, "CNI_ARGS="+x.env)
		n.ok(t, "DEL", p, x.conf, "CNI_ARGS="+x.env)
	}
}

// TestRuntimeRanges takes a container's address from ranges that the runtime passes.
func TestRuntimeRanges(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	c := n.conf.with("ipam", config{"type": "host-local", "dataDir": n.hostLocal()}).
		with("runtimeConfig", config{"ipRanges": []any{[]any{config{"subnet": "10.55.0.0/24", "rangeStart": "10.55.0.9"}}, []any{config{"subnet": "fd55::/64", "rangeStart": "fd55::9"}}}})
	v4, v6 := addrs(t, n.add(t, n.pod(t), c))
	require.Equal(t, []string{"10.55.0.9", "fd55::9"}, []string{v4, v6})
}

// TestDNS passes on name servers: the runtime's, the configuration's, or those of a file.
func TestDNS(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	file := filepath.Join(n.dir, "resolv.conf")
	require.NoError(t, os.WriteFile(file, []byte("# c\nnameserver 10.0.0.1\nnameserver fd00::1\nsearch a.b c.d\noptions ndots:5 edns0\n"), 0o600))
	ipam := n.conf["ipam"].(config).with("resolvConf", file)
	for want, c := range map[string]config{
		`{"nameservers":["10.0.0.1","fd00::1"],"search":["a.b","c.d"],"options":["ndots:5","edns0"]}`: n.conf.with("ipam", ipam),
		`{"nameservers":["10.0.0.2"],"domain":"x"}`:                                                   n.conf.with("ipam", ipam).with("dns", config{"nameservers": []string{"10.0.0.2"}, "domain": "x"}),
		`{"nameservers":["10.0.0.3"],"search":["y"]}`:                                                 n.conf.with("ipam", ipam).with("runtimeConfig", config{"dns": config{"servers": []string{"10.0.0.3"}, "searches": []string{"y"}}}),
	} {
		have, err := json.Marshal(n.add(t, n.pod(t), c).DNS)
		require.NoError(t, err)
		require.JSONEq(t, want, string(have))
	}
	n.refused(t, 7, "ADD", n.pod(t), n.conf.with("ipam", ipam.with("resolvConf", "/nowhere")), "ipam.resolvConf", "/nowhere")
}

// TestParallel adds and removes many containers at once.
func TestParallel(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	keep := n.pod(t)
	n.ok(t, "ADD", keep, nil)
	before := n.snapshot(t)
	const count = 12
	type job struct {
		p *pod
		c config
	}
	var jobs []job
	for i := range count {
		jobs = append(jobs, job{n.pod(t), n.conf.with("runtimeConfig", ports(9000+i, 80, "tcp", "udp"))})
	}
	for _, verb := range []string{"ADD", "CHECK", "DEL"} {
		answers := make(chan string, count)
		for _, j := range jobs {
			go func() {
				stdin, _ := json.Marshal(j.c)
				cmd := n.command(string(stdin), n.env(verb, j.p)...)
				var out strings.Builder
				cmd.Stdout = &out
				err := n.ns.Start(cmd)
				if err == nil {
					err = cmd.Wait()
				}
				if err != nil {
					answers <- fmt.Sprint(verb, err, out.String())
				} else {
					answers <- ""
				}
			}()
		}
		for range jobs {
			require.Empty(t, <-answers)
		}
	}
	require.Equal(t, before, n.snapshot(t))
	n.ok(t, "CHECK", keep, nil)
}
