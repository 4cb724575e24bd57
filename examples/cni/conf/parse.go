package conf

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/jsonlite"
)

// Parse reads a configuration, fills in the defaults and names every fault.
func Parse(stdin []byte) (*Net, error) {
	n := &Net{}
	var errs []error
	r := jsonlite.Reader{Unknown: func(path, key string, in reflect.Type, known []string) {
		if err := unknown(path, key, in, known); err != nil {
			errs = append(errs, err)
		}
	}}
	if faults := r.Read(stdin, n); len(faults) > 0 {
		return nil, errors.Join(append(errs, faults...)...)
	}
	n.defaults()
	if errs = append(errs, n.validate()...); len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return n, nil
}

func (n *Net) defaults() {
	if n.Mode == "" {
		n.Mode = BridgeMode
	}
	if n.Bridge == "" && n.Mode == BridgeMode {
		n.Bridge = "cni0"
	}
	n.IsGateway = n.IsGateway || n.IsDefaultGateway
	if n.PreserveDefaultVLAN == nil {
		n.PreserveDefaultVLAN = ptr(true)
	}
	if n.SNAT == nil {
		n.SNAT = ptr(true)
	}
	if n.IPAM != nil && reflect.ValueOf(*n.IPAM).IsZero() {
		n.IPAM = nil // as the stock plugins take it
	}
	if n.IPAM != nil && n.IPAM.Type == "" {
		n.IPAM.Type = "host-local"
	}
	if n.IPAM != nil && n.IPAM.Subnet != "" {
		n.IPAM.Ranges = append([][]IPRange{{n.IPAM.IPRange}}, n.IPAM.Ranges...)
		n.IPAM.IPRange = IPRange{}
	}
	n.SourceRouting = n.SourceRouting || n.Table != nil
	for i := range n.Runtime.PortMappings {
		p := &n.Runtime.PortMappings[i]
		if p.Protocol = strings.ToLower(p.Protocol); p.Protocol == "" {
			p.Protocol = "tcp"
		}
	}
}

func ptr[T any](v T) *T { return &v }

// isNetworkName is the specification's syntax of a network's name; it becomes part of file and link names.
func isNetworkName(s string) bool {
	for i, c := range s {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && (i == 0 || !strings.ContainsRune("_.-", c)) {
			return false
		}
	}
	return s != ""
}

type faults []error

func (f *faults) add(path, format string, args ...any) {
	*f = append(*f, fmt.Errorf(path+": "+format, args...))
}

func (n *Net) validate() []error {
	var f faults
	if !isNetworkName(n.Name) {
		f.add("name", "%q is no network name: letters, digits, '_', '.' and '-', the first a letter or digit", n.Name)
	}
	if n.Mode != BridgeMode && n.Mode != RoutedMode {
		f.add("mode", "%q is neither bridge nor ptp", string(n.Mode))
	}
	if n.Mode == RoutedMode {
		n.bridgeOnly(&f)
	}
	if len(n.Bridge) > 15 || strings.ContainsAny(n.Bridge, "/ \t") {
		f.add("bridge", "%q is no link name: at most 15 characters without '/' and spaces", n.Bridge)
	}
	if n.HairpinMode && n.PromiscMode {
		f.add("hairpinMode", "excludes promiscMode: a promiscuous bridge delivers hairpin traffic itself, and twice with both")
	}
	if n.DisableContainerInterface && n.IPAM != nil {
		f.add("disableContainerInterface", "excludes ipam: an interface that is down has no addresses")
	}
	if n.VLAN < 0 || n.VLAN > 4094 {
		f.add("vlan", "%d is not in 0 to 4094", n.VLAN)
	}
	for i, t := range n.VLANTrunk {
		t.validate(&f, fmt.Sprintf("vlanTrunk[%d]", i))
	}
	if n.MTU != 0 && (n.MTU < 68 || n.MTU > 65535) {
		f.add("mtu", "%d is not in 68 to 65535, or 0 for the default", n.MTU)
	}
	for _, mac := range []struct{ path, text string }{{"mac", n.MAC}, {"runtimeConfig.mac", n.Runtime.MAC}, {"args.cni.mac", n.Args.CNI.MAC}} {
		if hw, err := net.ParseMAC(mac.text); mac.text != "" && (err != nil || len(hw) != 6 || hw[0]&1 != 0) {
			f.add(mac.path, "%q is no unicast MAC address such as 02:00:5e:10:00:01", mac.text)
		}
	}
	n.backends(&f)
	n.Bandwidth.validate(&f, "")
	if n.Runtime.Bandwidth != nil {
		n.Runtime.Bandwidth.validate(&f, "runtimeConfig.bandwidth.")
	}
	for key := range n.Sysctl {
		if !strings.HasPrefix(strings.ReplaceAll(key, "/", "."), "net.") {
			f.add("sysctl", "%s is not of the network namespace: only net.* can be set for a pod", key)
		}
	}
	if n.TxQLen != nil && *n.TxQLen < 0 {
		f.add("txQLen", "%d is negative", *n.TxQLen)
	}
	if n.Table != nil && *n.Table < 1 {
		f.add("table", "%d is no routing table: 1 or more", *n.Table)
	}
	n.Runtime.validate(&f)
	if n.IPAM != nil {
		n.IPAM.validate(&f)
	}
	return f
}

func (n *Net) bridgeOnly(f *faults) {
	for key, set := range map[string]bool{
		"bridge": n.Bridge != "", "isGateway": n.IsGateway, "forceAddress": n.ForceAddress, "hairpinMode": n.HairpinMode, "promiscMode": n.PromiscMode,
		"vlan": n.VLAN != 0, "vlanTrunk": n.VLANTrunk != nil, "portIsolation": n.PortIsolation, "macspoofchk": n.MACSpoofCheck, "disableContainerInterface": n.DisableContainerInterface,
	} {
		if set {
			f.add(key, "needs mode bridge, and mode is ptp")
		}
	}
}

func (t VLANTrunk) validate(f *faults, path string) {
	in := func(field string, v *int) bool {
		if v == nil || *v >= 1 && *v <= 4094 {
			return v != nil
		}
		f.add(path+"."+field, "%d is not in 1 to 4094", *v)
		return false
	}
	id, low, high := in("id", t.ID), in("minID", t.MinID), in("maxID", t.MaxID)
	switch {
	case (t.MinID == nil) != (t.MaxID == nil):
		f.add(path, "minID and maxID go together")
	case low && high && *t.MinID > *t.MaxID:
		f.add(path, "minID %d is greater than maxID %d", *t.MinID, *t.MaxID)
	case !id && t.ID == nil && t.MinID == nil:
		f.add(path, "needs an id, or minID and maxID")
	}
}

// backends refuses what only makes sense with another program's rules.
func (n *Net) backends(f *faults) {
	for _, b := range []struct {
		path string
		have *string
	}{{"ipMasqBackend", n.IPMasqBackend}, {"backend", n.Backend}} {
		if b.have != nil && *b.have != "iptables" && *b.have != "nftables" && *b.have != "" {
			f.add(b.path, "%q is neither iptables nor nftables; nftables is used for both", *b.have)
		}
	}
	if n.SetMarkChain != nil && *n.SetMarkChain != "" {
		f.add("externalSetMarkChain", "names a chain of iptables, which is not used: remove the key, masquerading needs no mark")
	}
	for path, c := range map[string]*[]string{"conditionsV4": n.ConditionsV4, "conditionsV6": n.ConditionsV6} {
		if c != nil && len(*c) > 0 {
			f.add(path, "holds matches of iptables, which are not supported: remove the key, or use hostIP in the port mapping")
		}
	}
}

func (b Bandwidth) validate(f *faults, path string) {
	for _, d := range []struct {
		name        string
		rate, burst uint64
	}{{"ingress", b.IngressRate, b.IngressBurst}, {"egress", b.EgressRate, b.EgressBurst}} {
		if (d.rate == 0) != (d.burst == 0) {
			f.add(path+d.name+"Rate", "%d bit/s and %sBurst, %d bit, go together: set both or neither", d.rate, d.name, d.burst)
		}
		if d.rate > 0 && d.rate < 8 {
			f.add(path+d.name+"Rate", "%d bit/s is less than a byte a second", d.rate)
		}
		if d.burst/8 > 1<<32-1 {
			f.add(path+d.name+"Burst", "%d bit is more than the kernel can hold: at most %d", d.burst, uint64(1<<32-1)*8)
		}
	}
}

func (r *Runtime) validate(f *faults) {
	type key struct {
		port     int
		protocol string
		ip       string
	}
	seen := map[key]int{}
	for i, p := range r.PortMappings {
		path := fmt.Sprintf("runtimeConfig.portMappings[%d]", i)
		if p.HostPort < 0 || p.HostPort > 65535 {
			f.add(path+".hostPort", "%d is not in 0 to 65535", p.HostPort)
		}
		if p.ContainerPort < 1 || p.ContainerPort > 65535 {
			f.add(path+".containerPort", "%d is not in 1 to 65535", p.ContainerPort)
		}
		if p.Protocol != "tcp" && p.Protocol != "udp" && p.Protocol != "sctp" {
			f.add(path+".protocol", "%q is none of tcp, udp, sctp", p.Protocol)
		}
		if _, err := netip.ParseAddr(p.HostIP); err != nil && p.HostIP != "" {
			f.add(path+".hostIP", "%q is no IP address", p.HostIP)
		}
		k := key{p.HostPort, p.Protocol, p.HostIP}
		if j, ok := seen[k]; ok && p.HostPort != 0 {
			f.add(path, "maps the same host port as portMappings[%d]", j)
		}
		seen[k] = i
	}
	for i, s := range r.IPs {
		if _, err := ParseIP(s); err != nil {
			f.add(fmt.Sprintf("runtimeConfig.ips[%d]", i), "%v", err)
		}
	}
}

// ParseIP reads an address that may have a prefix length.
func ParseIP(s string) (netip.Addr, error) {
	text, _, _ := strings.Cut(s, "/")
	a, err := netip.ParseAddr(text)
	if err != nil {
		return a, fmt.Errorf("%q is no IP address", s)
	}
	return a.Unmap(), nil
}

func (m *IPAM) validate(f *faults) {
	switch m.Type {
	case "host-local":
		if len(m.Addresses) > 0 {
			f.add("ipam.addresses", "needs ipam.type static")
		}
	case "static":
		if len(m.Ranges) > 0 {
			f.add("ipam.ranges", "needs ipam.type host-local")
		}
	default:
		f.add("ipam.type", "%q is neither host-local nor static: both are built in, and no other plugin is run", m.Type)
	}
	for i, a := range m.Addresses {
		if !a.Address.IsValid() {
			f.add(fmt.Sprintf("ipam.addresses[%d].address", i), "is required, with its prefix length, as 10.1.2.3/24")
		}
	}
	for i, r := range m.Routes {
		if !r.Dst.IsValid() {
			f.add(fmt.Sprintf("ipam.routes[%d].dst", i), "is required, as 0.0.0.0/0")
		} else if r.GW.IsValid() && r.GW.Is4() != r.Dst.Addr().Is4() {
			f.add(fmt.Sprintf("ipam.routes[%d].gw", i), "%s is of another family than %s", r.GW, r.Dst)
		}
	}
}
