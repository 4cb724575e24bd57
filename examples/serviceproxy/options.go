package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/service"
)

// options is the command line, over the configuration file.
type options struct {
	manifests  string
	kubeconfig string
	master     string
	node       string

	clusterCIDRs  []netip.Prefix
	serviceCIDRs  []netip.Prefix
	nodePorts     service.NodePortAddresses
	masqueradeAll bool
	proxyName     string

	healthz string // address and port; empty: none
	metrics string

	minSync time.Duration
	sync    time.Duration

	backend   string
	table     string
	counts    bool
	cleanup   bool
	dryRun    bool
	verbosity int

	args []string // of explain
}

// defaults are those of kube-proxy, but for the time between two changes: here a change costs the same however many
// Services there are, and nothing is won by waiting for more of them.
func defaults() options {
	return options{nodePorts: service.NodePortAddresses{Localhost: true}, healthz: "0.0.0.0:10256", metrics: "127.0.0.1:10249", sync: 30 * time.Second, backend: "nat", table: "podplumb-services"}
}

// parse reads the command line. When ok is false the program ends with the code.
func parse(args []string, stderr io.Writer) (o options, code int, ok bool) {
	o = defaults()
	// The configuration file has the first word, and flags the last, as in kube-proxy.
	var file string
	probe := flag.NewFlagSet("serviceproxy", flag.ContinueOnError)
	probe.SetOutput(io.Discard)
	ignored := o
	ignored.define(probe, &file, io.Discard)
	if err := probe.Parse(args); err == nil && file != "" {
		if err := o.readConfig(file); err != nil {
			fmt.Fprintln(stderr, "serviceproxy: --config:", err)
			return o, run.Usage, false
		}
	}
	flags := flag.NewFlagSet("serviceproxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	o.define(flags, &file, stderr)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return o, run.Proved, false
	case err != nil:
		return o, run.Usage, false
	}
	o.args = flags.Args()
	if o.node == "" {
		name, err := os.Hostname()
		if err != nil {
			fmt.Fprintln(stderr, "serviceproxy: --hostname-override is needed:", err)
			return o, run.Usage, false
		}
		o.node = name
	}
	o.node = strings.ToLower(strings.TrimSpace(o.node))
	if err := o.check(); err != nil {
		fmt.Fprintln(stderr, "serviceproxy:", err)
		return o, run.Usage, false
	}
	return o, 0, true
}

func (o *options) define(flags *flag.FlagSet, config *string, stderr io.Writer) {
	flags.StringVar(&o.manifests, "manifests", o.manifests, "take the objects from the manifests in this `directory`, and follow them")
	flags.StringVar(&o.kubeconfig, "kubeconfig", o.kubeconfig, "`file` that says how to reach the API server; empty, and no --master: as the pod that this runs in")
	flags.StringVar(&o.master, "master", o.master, "`URL` of the API server, over the one in --kubeconfig")
	flags.StringVar(&o.node, "hostname-override", o.node, "`name` of the Node that this runs on; default: the host's name")
	prefixes(flags, &o.clusterCIDRs, "cluster-cidr", "`networks` of the cluster's pods: clients from elsewhere are masqueraded on their way through a cluster IP")
	prefixes(flags, &o.serviceCIDRs, "service-cidr", "`networks` of cluster IPs: packets to an address in them that no Service has are dropped; default: the API server's ServiceCIDR objects")
	flags.Func("nodeport-addresses", "serve node ports on the node's addresses in these `networks`, or on \"primary\", the Node's first InternalIP of each family; default: on all", o.setNodePorts)
	for _, name := range []string{"localhost-nodeports", "iptables-localhost-nodeports"} {
		flags.BoolVar(&o.nodePorts.Localhost, name, o.nodePorts.Localhost, "serve node ports on loopback addresses, too, for clients on the node")
	}
	flags.BoolVar(&o.masqueradeAll, "masquerade-all", o.masqueradeAll, "masquerade every connection to a cluster IP")
	flags.StringVar(&o.proxyName, "service-proxy-name", o.proxyName, "serve only the Services whose label service.kubernetes.io/service-proxy-name has this `value`; default: those without the label")
	flags.StringVar(&o.healthz, "healthz-bind-address", o.healthz, "`address` of /healthz and /livez; empty: none")
	flags.StringVar(&o.metrics, "metrics-bind-address", o.metrics, "`address` of /metrics; empty: none")
	flags.DurationVar(&o.minSync, "min-sync-period", o.minSync, "least `time` between two changes of the kernel")
	flags.DurationVar(&o.sync, "sync-period", o.sync, "look after this `time` whether something is left to do, even if nothing changed")
	flags.StringVar(&o.backend, "backend", o.backend, "what serves the Services: "+strings.Join(backendNames(), ", "))
	flags.StringVar(&o.table, "table", o.table, "`name` of the nftables table that the backend owns")
	flags.BoolVar(&o.counts, "count-connections", o.counts, "count the connections of every endpoint, for /metrics")
	flags.BoolVar(&o.cleanup, "cleanup", o.cleanup, "remove all that this program has left in the kernel, and end")
	flags.BoolVar(&o.dryRun, "dry-run", o.dryRun, "print what would change in the kernel, and end")
	flags.IntVar(&o.verbosity, "v", o.verbosity, "`level` of detail of the log: 2 tells every change")
	flags.StringVar(config, "config", *config, "a KubeProxyConfiguration `file`; flags go over it")
	tolerate(flags, stderr)
}

// prefixes defines a flag that holds networks, separated by commas.
func prefixes(flags *flag.FlagSet, list *[]netip.Prefix, name, help string) {
	flags.Func(name, help, func(text string) (err error) {
		*list, err = parsePrefixes(strings.Split(text, ","))
		return err
	})
}

func parsePrefixes(texts []string) (list []netip.Prefix, err error) {
	var faults []error
	for _, text := range texts {
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		p, err := netip.ParsePrefix(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("%q is not a network such as 10.244.0.0/16 or fd00:10:244::/48", text))
			continue
		}
		list = append(list, p.Masked())
	}
	return list, errors.Join(faults...)
}

func (o *options) setNodePorts(text string) (err error) {
	o.nodePorts.Primary, o.nodePorts.In = false, nil
	var rest []string
	for part := range strings.SplitSeq(text, ",") {
		if strings.TrimSpace(part) == "primary" {
			o.nodePorts.Primary = true
			continue
		}
		rest = append(rest, part)
	}
	o.nodePorts.In, err = parsePrefixes(rest)
	if err == nil && o.nodePorts.Primary && len(o.nodePorts.In) > 0 {
		return errors.New("\"primary\" stands alone")
	}
	return err
}

func (o *options) check() error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if o.manifests != "" && (o.kubeconfig != "" || o.master != "") {
		fault("--manifests and --kubeconfig or --master: the objects come from one place")
	}
	if o.sync <= 0 || o.minSync < 0 {
		fault("--sync-period %v, --min-sync-period %v: the one is above 0, the other not below", o.sync, o.minSync)
	}
	if o.minSync > o.sync {
		fault("--min-sync-period %v is longer than --sync-period %v", o.minSync, o.sync)
	}
	for name, address := range map[string]*string{"healthz-bind-address": &o.healthz, "metrics-bind-address": &o.metrics} {
		port := map[string]string{"healthz-bind-address": "10256", "metrics-bind-address": "10249"}[name]
		if ip, err := netip.ParseAddr(strings.Trim(*address, "[]")); err == nil {
			*address = net.JoinHostPort(ip.String(), port) // kube-proxy takes an address alone, too
		}
		if _, err := netip.ParseAddrPort(*address); *address != "" && err != nil {
			fault("--%s %q is not an address and port", name, *address)
		}
	}
	if backends[o.backend] == nil {
		fault("--backend %q is not one of %s", o.backend, strings.Join(backendNames(), ", "))
	}
	return errors.Join(faults...)
}
