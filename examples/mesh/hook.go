package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/podplumb/podplumb/examples/internal/run"
	"github.com/podplumb/podplumb/examples/mesh/capture"
	"github.com/podplumb/podplumb/netns"
)

// envCommand is what a container runtime calls CNI plugins with.
const envCommand = "CNI_COMMAND"

// hookWithin bounds a call.
const hookWithin = 30 * time.Second

// hookConfig is what a list of plugins says about this one, the last of it.
type hookConfig struct {
	types.PluginConf

	// Namespaces are those whose pods are held; without any, all pods are.
	Namespaces []string `json:"namespaces"`

	// Probes are networks that may come in clear, as for the node's agent.
	Probes []string `json:"probes"`
	probes []netip.Prefix
}

// hookArgs are the runtime's (Kubernetes' conventions).
type hookArgs struct {
	types.CommonArgs
	K8S_POD_NAMESPACE types.UnmarshallableString
}

// runHook is a CNI plugin that comes after those that make a pod's network. It captures the pod before anything runs in it,
// with no proxy there: everything is refused until the node's agent takes the pod into the mesh, or lets go of one that is
// not to be in it.
func runHook(ctx context.Context, stderr io.Writer) int {
	ctx, cancel := context.WithTimeout(ctx, hookWithin)
	defer cancel()
	nothing := func(*skel.CmdArgs) error { return nil } // the rules end with the pod's namespace
	err := skel.PluginMainFuncsWithError(skel.CNIFuncs{
		Add: func(args *skel.CmdArgs) error { return holdBack(ctx, args) },
		Del: nothing, Check: nothing, GC: nothing, Status: nothing,
	}, version.PluginSupports("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"), "podplumb-mesh: holds pods back until the mesh has them")
	if err == nil {
		return run.Proved
	}
	if wrong := err.Print(); wrong != nil {
		fmt.Fprintln(stderr, "podplumb-mesh:", wrong)
	}
	return run.Failed
}

func holdBack(ctx context.Context, args *skel.CmdArgs) error {
	config, err := readHook(args)
	if err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	var about hookArgs
	about.IgnoreUnknown = true
	if err := types.LoadArgs(args.Args, &about); err != nil {
		return types.NewError(types.ErrInvalidEnvironmentVariables, err.Error(), "")
	}
	if len(config.Namespaces) > 0 && !slices.Contains(config.Namespaces, string(about.K8S_POD_NAMESPACE)) {
		return types.PrintResult(config.PrevResult, config.CNIVersion)
	}
	ns, err := netns.Open(args.Netns)
	if err != nil {
		return err
	}
	defer ns.Close()
	c, err := capture.New(capture.Config{NetNS: ns, From: config.probes})
	if err != nil {
		return err
	}
	if err := errors.Join(c.Begin(ctx), c.Close()); err != nil {
		return err
	}
	return types.PrintResult(config.PrevResult, config.CNIVersion)
}

func readHook(args *skel.CmdArgs) (*hookConfig, error) {
	config := &hookConfig{}
	if err := json.Unmarshal(args.StdinData, config); err != nil {
		return nil, err
	}
	var faults []error
	for i, text := range config.Probes {
		p, err := parseNetwork(text)
		if err != nil {
			faults = append(faults, fmt.Errorf("probes[%d]: %w", i, err))
		}
		config.probes = append(config.probes, p)
	}
	if err := version.ParsePrevResult(&config.PluginConf); err != nil {
		faults = append(faults, err)
	} else if config.PrevResult == nil {
		faults = append(faults, errors.New("prevResult: there is none: a plugin before this one makes the pod's network"))
	}
	return config, errors.Join(faults...)
}

// isHook says whether a container runtime calls.
func isHook(args []string) bool { return len(args) == 0 && os.Getenv(envCommand) != "" }
