package agent

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/vxlan"
)

// options are what the command line says.
type options struct {
	name       string // of this node among the nodes
	nodes      string // file or directory of Node manifests
	kubeconfig string
	inCluster  bool

	conflist string
	network  string
	plugin   string
	bridge   string

	device     string
	vni        uint
	port       uint
	mtu        int
	direct     bool
	masquerade bool
	keep       []netip.Prefix // destinations that are not masqueraded, besides the pods of all nodes

	down bool
}

func (o *options) flags(name string) *flag.FlagSet {
	f := flag.NewFlagSet(name, flag.ContinueOnError)
	hostname, _ := os.Hostname()
	f.StringVar(&o.name, "name", hostname, "name of this node")
	f.StringVar(&o.nodes, "nodes", "", "file or directory of Node manifests, YAML or JSON; it is watched")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "take the Nodes from the API server of this file instead")
	f.BoolVar(&o.inCluster, "in-cluster", false, "take the Nodes from the API server of the pod's service account instead")
	f.StringVar(&o.conflist, "conflist", "/etc/cni/net.d/10-podplumb.conflist", "CNI configuration to write once the overlay works; empty: none")
	f.StringVar(&o.network, "network", "podplumb", "name of the network in the CNI configuration")
	f.StringVar(&o.plugin, "plugin", "podplumb-cni", "file name of the CNI plugin in the CNI configuration")
	f.StringVar(&o.bridge, "bridge", "cni0", "bridge of the pods in the CNI configuration")
	f.StringVar(&o.device, "device", "vxlan0", "name of the overlay device")
	f.UintVar(&o.vni, "vni", 1, "VXLAN network identifier, the same on all nodes")
	f.UintVar(&o.port, "port", vxlan.DefaultPort, "UDP port, the same on all nodes")
	f.IntVar(&o.mtu, "mtu", 0, "MTU of the overlay and of pods; 0: what fits into the underlay")
	f.BoolVar(&o.direct, "direct", false, "send to nodes of the same subnet without encapsulation")
	f.BoolVar(&o.masquerade, "masquerade", true, "let pods reach what is outside of the cluster under this node's address")
	f.Func("no-masquerade", "range that pods reach under their own addresses, besides those of all pods; may be given several times", func(text string) error {
		prefix, err := netip.ParsePrefix(text)
		if err == nil && prefix != prefix.Masked() {
			err = fmt.Errorf("%s has bits set behind its prefix: %s was meant?", prefix, prefix.Masked())
		}
		o.keep = append(o.keep, prefix)
		return err
	})
	f.BoolVar(&o.down, "down", false, "remove what an agent has made, and end")
	return f
}

// validate names every fault of the command line.
func (o *options) validate() error {
	var faults []error
	sources := 0
	for _, given := range []bool{o.nodes != "", o.kubeconfig != "", o.inCluster} {
		if given {
			sources++
		}
	}
	if sources != 1 && !o.down {
		faults = append(faults, errors.New("exactly one of -nodes, -kubeconfig and -in-cluster says where the nodes come from"))
	}
	if o.name == "" && !o.down {
		faults = append(faults, errors.New("-name: required: this machine has no host name"))
	}
	if o.vni < 1 || o.vni > vxlan.MaxVNI {
		faults = append(faults, fmt.Errorf("-vni: %d is not in 1-%d", o.vni, vxlan.MaxVNI))
	}
	if o.port < 1 || o.port > 65535 {
		faults = append(faults, fmt.Errorf("-port: %d is not in 1-65535", o.port))
	}
	return errors.Join(faults...)
}

// Run is the program. It ends with code 0 when it is told to by a signal.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var o options
	flags := o.flags("node")
	if code, ok := run.Parse(flags, args, stderr); !ok {
		return code
	}
	if err := o.validate(); err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return run.Usage
	}
	alone, err := claim(ctx, o.device)
	if err != nil {
		fmt.Fprintf(stderr, "node: %v\n", err)
		return run.Failed
	}
	defer alone.Close()
	a, err := newAgent(o, stdout)
	if err != nil {
		return run.Explain(ctx, stderr, "node", err)
	}
	defer a.close()
	if o.down {
		err = a.down(ctx)
	} else {
		err = a.follow(ctx)
	}
	if err != nil && ctx.Err() == nil {
		return run.Explain(ctx, stderr, "node", err)
	}
	return run.Proved
}

// claim makes sure that there is one agent for a device. The name is of the network namespace, and the kernel frees it when the agent dies.
func claim(ctx context.Context, device string) (io.Closer, error) {
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "unix", "@podplumb-node/"+device)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("another agent looks after %s in this network namespace", device)
	}
	return listener, err
}
