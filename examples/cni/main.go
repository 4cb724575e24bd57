// The cni example is a CNI plugin: one program that does what the stock plugins bridge, ptp, host-local, portmap, bandwidth, tuning and
// sbr do as a chain of processes. See README.md.
package main

import (
	_ "github.com/podplumb/podplumb/examples/cni/early"
	"github.com/podplumb/podplumb/examples/cni/plugin"
)

func main() { plugin.Main(nil) }
