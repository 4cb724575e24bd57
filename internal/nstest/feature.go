package nstest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Feature is something that a kernel test needs from the machine it runs on. Every
// feature is probed once a process, by really trying it in a throw-away namespace.
type Feature string

// The features.
const (
	NetNS         Feature = "netns"          // make and enter network namespaces
	Root          Feature = "root"           // root in the initial user namespace
	Veth          Feature = "veth"           // veth pairs
	Bridge        Feature = "bridge"         // bridges
	VLANFiltering Feature = "vlan-filtering" // bridges that tell VLANs apart
	VXLAN         Feature = "vxlan"          // VXLAN devices
	Dummy         Feature = "dummy"          // dummy devices
	IFB           Feature = "ifb"            // intermediate functional blocks
	Macvlan       Feature = "macvlan"        // macvlan devices
	IPVlan        Feature = "ipvlan"         // ipvlan devices
	VLAN          Feature = "8021q"          // VLAN devices
	VRF           Feature = "vrf"            // virtual routing and forwarding devices
	Geneve        Feature = "geneve"         // Geneve devices
	WireGuard     Feature = "wireguard"      // WireGuard devices
	NFTables      Feature = "nftables"       // nf_tables with the ip, ip6 and inet families
	NFTBridge     Feature = "nft-bridge"     // nf_tables with the bridge family
	NFTOwner      Feature = "nft-owner"      // table flags owner and persist (Linux 6.9)
	Conntrack     Feature = "conntrack"      // connection tracking
	BrNetfilter   Feature = "br-netfilter"   // bridged packets pass the IP hooks
	IPVS          Feature = "ipvs"           // IP virtual server
	TUN           Feature = "tun"            // TUN and TAP devices
	IPv6          Feature = "ipv6"           // IPv6
)

// Features returns all features but the tools.
func Features() []Feature {
	return []Feature{
		NetNS, Root, Veth, Bridge, VLANFiltering, VXLAN, Dummy, IFB, Macvlan, IPVlan, VLAN, VRF, Geneve,
		WireGuard, NFTables, NFTBridge, NFTOwner, Conntrack, BrNetfilter, IPVS, TUN, IPv6,
	}
}

const toolPrefix = "tool "

// Tool is the feature that a program called name is in PATH.
func Tool(name string) Feature { return Feature(toolPrefix + name) }

// String returns the name that the report uses.
func (f Feature) String() string { return string(f) }

func (f Feature) tool() (name string, ok bool) { return strings.CutPrefix(string(f), toolPrefix) }

// inGuest holds the features that the kernel of internal/vmtest's guest has.
var inGuest = map[Feature]bool{
	NetNS: true, Root: true, Veth: true, Bridge: true, VLANFiltering: true, VXLAN: true, Dummy: true,
	IFB: true, Macvlan: true, IPVlan: true, VLAN: true, VRF: true, Geneve: true, WireGuard: true,
	TUN: true, NFTables: true, NFTBridge: true, Conntrack: true, BrNetfilter: true, IPVS: true, IPv6: true,
}

// remedies say how to get a feature.
var remedies = map[Feature]string{
	NetNS:         "run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1)",
	Root:          "run as root, outside of a user namespace",
	VLANFiltering: "needs CONFIG_BRIDGE_VLAN_FILTERING",
	VXLAN:         "modprobe vxlan",
	Dummy:         "modprobe dummy",
	IFB:           "modprobe ifb",
	NFTables:      "modprobe nf_tables",
	NFTOwner:      "needs Linux 6.9",
	Conntrack:     "modprobe nf_conntrack",
	BrNetfilter:   "modprobe br_netfilter",
	IPVS:          "modprobe ip_vs, as root",
}

// since holds the Linux release that brought a feature, where kernels without it are still in use.
var since = map[Feature]string{NFTOwner: "6.9"}

// tooOld reports whether the running kernel is older than f.
func (f Feature) tooOld() bool { return since[f] != "" && older(release(), since[f]) }

// older compares Linux releases by their first two numbers. One that cannot be read is not older.
func older(running, wanted string) bool {
	var have, want [2]int
	if n, _ := fmt.Sscanf(running, "%d.%d", &have[0], &have[1]); n != 2 {
		return false
	}
	if n, _ := fmt.Sscanf(wanted, "%d.%d", &want[0], &want[1]); n != 2 {
		return false
	}
	return slices.Compare(have[:], want[:]) < 0
}

func (f Feature) remedy() string {
	if name, ok := f.tool(); ok {
		return "install " + name
	}
	if r, ok := remedies[f]; ok {
		return r
	}
	return "modprobe " + string(f)
}

// Require skips the test, with the reason and the remedy, where f is missing. With
// PODPLUMB_KERNEL_TESTS=must it fails it instead, unless the guest of internal/vmtest has f
// and PODPLUMB_GUEST=defer leaves the test to it, or the kernel is of a release before f. The
// guest has few tools: a test that needs another is skipped there.
func Require(t testing.TB, f Feature) {
	t.Helper()
	err := Probe(f)
	if err == nil {
		report(t, "run", f)
		return
	}
	must, what := mustRun(), "skip"
	if _, tool := f.tool(); tool && InGuest() {
		must = false
	}
	if must && inGuest[f] {
		must, what = !deferToGuest(), "guest"
	}
	if f.tooOld() {
		must, what = false, "old"
	}
	report(t, what, f)
	if must {
		t.Fatalf("PODPLUMB_KERNEL_TESTS=must, and this test needs %s: %v (%s)", f, err, f.remedy())
	}
	t.Skipf("needs %s: %v (%s)", f, err, f.remedy())
}

// Probe returns nil if the machine has f, and otherwise what went wrong when f was tried.
func Probe(f Feature) error {
	probes.Lock()
	defer probes.Unlock()
	if err, known := probes.results[f]; known {
		return err
	}
	err := probe(f)
	probes.results[f] = err
	return err
}
