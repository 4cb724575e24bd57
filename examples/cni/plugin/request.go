package plugin

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

// DefaultDataDir is where records and leases are kept when the configuration does not say.
const DefaultDataDir = "/var/lib/cni/podplumb"

// defaultHostLocal is where the host-local plugin keeps its leases when the configuration does not say.
const defaultHostLocal = "/var/lib/cni/networks"

// request is one command with all that was passed along, checked.
type request struct {
	key   record.Key
	netns string
	net   *conf.Net
	store record.Store

	ips       []netip.Addr // asked for
	askedText []string     // the same as they were written
	mac       veth.MAC     // asked for
	dns       types.DNS    // to pass on, after findDNS
	bridgeMAC veth.MAC     // once the link is made
}

func newRequest(args *skel.CmdArgs) (*request, error) {
	n, err := conf.Parse(args.StdinData)
	if err != nil {
		return nil, withCode(types.ErrInvalidNetworkConfig, "correct the keys named in the network configuration", err)
	}
	if n.DataDir == "" {
		n.DataDir = DefaultDataDir
	}
	r := &request{
		key:   record.Key{Network: n.Name, ContainerID: args.ContainerID, IfName: args.IfName},
		netns: args.Netns, net: n, store: record.Store{Dir: n.DataDir},
	}
	env, err := parseArgs(args.Args)
	if err != nil {
		return nil, withCode(types.ErrInvalidEnvironmentVariables, "correct CNI_ARGS, or add IgnoreUnknown=true", err)
	}
	return r, r.asked(env)
}

// cniArgs is CNI_ARGS.
type cniArgs struct {
	ips []string
	mac string
}

// parseArgs reads KEY=VALUE;KEY=VALUE. Keys are those of the stock plugins; others need IgnoreUnknown.
func parseArgs(text string) (cniArgs, error) {
	var out cniArgs
	var faults []error
	var unknown []string
	ignore := false
	for pair := range strings.SplitSeq(text, ";") {
		key, value, ok := strings.Cut(pair, "=")
		switch {
		case pair == "":
		case !ok:
			faults = append(faults, fmt.Errorf("CNI_ARGS: %q is no KEY=VALUE", pair))
		case key == "IgnoreUnknown":
			switch strings.ToLower(value) {
			case "1", "true":
				ignore = true
			case "0", "false":
			default:
				faults = append(faults, fmt.Errorf("CNI_ARGS: IgnoreUnknown: %q is none of 1, true, 0, false", value))
			}
		case key == "IP":
			out.ips = strings.Split(value, ",")
		case key == "MAC":
			out.mac = value
		default:
			unknown = append(unknown, key)
		}
	}
	if len(unknown) > 0 && !ignore {
		faults = append(faults, fmt.Errorf("CNI_ARGS: unknown keys %s", strings.Join(unknown, ", ")))
	}
	for _, ip := range out.ips {
		if _, err := conf.ParseIP(ip); err != nil {
			faults = append(faults, fmt.Errorf("CNI_ARGS: IP: %w", err))
		}
	}
	if _, err := parseMAC(out.mac); err != nil {
		faults = append(faults, fmt.Errorf("CNI_ARGS: MAC: %w", err))
	}
	return out, errors.Join(faults...)
}

func parseMAC(s string) (veth.MAC, error) {
	if s == "" {
		return veth.MAC{}, nil
	}
	m, err := veth.ParseMAC(s)
	if err == nil && m[0]&1 != 0 {
		err = fmt.Errorf("%s is a multicast address", s)
	}
	return m, err
}

// asked sorts out what may be asked for in four places: the capability counts most, then args, then CNI_ARGS, then the configuration.
func (r *request) asked(env cniArgs) error {
	n := r.net
	ips := env.ips
	if len(n.Args.CNI.IPs) > 0 {
		ips = n.Args.CNI.IPs
	}
	if len(n.Runtime.IPs) > 0 {
		ips = n.Runtime.IPs
	}
	for _, text := range ips {
		a, err := conf.ParseIP(text)
		if err != nil {
			return withCode(types.ErrInvalidNetworkConfig, "give IP addresses", fmt.Errorf("args.cni.ips: %w", err))
		}
		r.ips, r.askedText = append(r.ips, a), append(r.askedText, text)
	}
	mac := n.MAC
	for _, m := range []string{env.mac, n.Args.CNI.MAC, n.Runtime.MAC} {
		if m != "" {
			mac = m
		}
	}
	var err error
	r.mac, err = parseMAC(mac)
	return withCode(types.ErrInvalidNetworkConfig, "give a unicast MAC address such as 02:00:5e:10:00:01", err)
}

// owner is the name under which addresses are leased.
func (r *request) owner() ipam.Owner {
	return ipam.Owner{ContainerID: r.key.ContainerID, IfName: r.key.IfName}
}
