package plugin

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
)

const about = "podplumb-cni: bridge, ptp, host-local, portmap, bandwidth, tuning and sbr in one CNI plugin"

// versions are those of the specification that configurations may be written in.
var versions = version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

// timeout bounds a command, whose runtime has given up long before.
const timeout = 90 * time.Second

// Main is the program. at, if not nil, is told of each step of a command right after it, by the step's name.
func Main(at func(step string)) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	p := &plugin{at: at}
	if len(os.Args) > 1 && os.Getenv("CNI_COMMAND") == "" {
		os.Exit(p.tool(ctx, os.Args[1:]))
	}
	// ADD makes sure by itself that the container's namespace is not the node's, before it begins and at less cost: see checkNetNS.
	_ = os.Setenv("CNI_NETNS_OVERRIDE", "true")
	run := func(command func(context.Context, *skel.CmdArgs) error) func(*skel.CmdArgs) error {
		return func(args *skel.CmdArgs) error { return explain(command(ctx, args)) }
	}
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: run(p.add), Del: run(p.del), Check: run(p.check), GC: run(p.gc), Status: run(p.status),
	}, versions, about)
	if err == nil {
		return
	}
	if perr := err.Print(); perr != nil {
		fmt.Fprintln(os.Stderr, "podplumb-cni:", perr)
	}
	os.Exit(1)
}

type plugin struct {
	at func(step string)
}

// passed tells the observer that a step is done.
func (p *plugin) passed(step string) {
	if p.at != nil {
		p.at(step)
	}
}

const usage = `usage: podplumb-cni doctor [-data DIR] [-network NAME]
       podplumb-cni hold [-data DIR]
Container runtimes call podplumb-cni without arguments and with CNI_COMMAND in the environment.
`

// tool is what people call the program for.
func (p *plugin) tool(ctx context.Context, args []string) int {
	switch args[0] {
	case "doctor":
		return p.doctor(ctx, args[1:], os.Stdout)
	case "hold":
		return hold(context.WithoutCancel(ctx), args[1:], os.Stdout)
	}
	fmt.Fprint(os.Stderr, usage)
	return 2
}
