package main

import (
	"flag"
	"fmt"
	"io"
)

// tolerated are flags of kube-proxy that have no meaning here, with what there is instead. A command line that was written
// for kube-proxy works; what is passed over is told.
var tolerated = map[string]string{
	"bind-address": "", "config-sync-period": "", "feature-gates": "", "log-flush-frequency": "", "logging-format": "", "log-json-info-buffer-size": "",
	"oom-score-adj": "", "show-hidden-metrics-for-version": "", "kube-api-burst": "", "kube-api-content-type": "", "kube-api-qps": "", "vmodule": "",
	"allow-metric-labels": "", "disabled-metrics": "", "pod-bridge-interface": "", "pod-interface-name-prefix": "",
	"proxy-mode":                        "the choice here is --backend",
	"detect-local-mode":                 "the pods' networks are those of --cluster-cidr",
	"iptables-min-sync-period":          "see --min-sync-period",
	"iptables-sync-period":              "see --sync-period",
	"iptables-masquerade-bit":           "",
	"ipvs-min-sync-period":              "see --min-sync-period",
	"ipvs-sync-period":                  "see --sync-period",
	"ipvs-scheduler":                    "",
	"ipvs-exclude-cidrs":                "",
	"ipvs-tcp-timeout":                  "",
	"ipvs-tcpfin-timeout":               "",
	"ipvs-udp-timeout":                  "",
	"conntrack-max-per-core":            "the kernel's own limits hold",
	"conntrack-min":                     "the kernel's own limits hold",
	"conntrack-tcp-timeout-established": "the kernel's own limits hold",
	"conntrack-tcp-timeout-close-wait":  "the kernel's own limits hold",
	"conntrack-udp-timeout":             "the kernel's own limits hold",
	"conntrack-udp-timeout-stream":      "the kernel's own limits hold",
}

// toleratedSwitches are those of them that may stand without a value.
var toleratedSwitches = map[string]string{
	"cleanup-ipvs": "", "log-json-split-stream": "", "profiling": "", "bind-address-hard-fail": "", "init-only": "", "ipvs-strict-arp": "", "conntrack-tcp-be-liberal": "",
}

// tolerate defines them.
func tolerate(flags *flag.FlagSet, stderr io.Writer) {
	tell := func(name, why string) error {
		if why != "" {
			why = ": " + why
		}
		fmt.Fprintf(stderr, "serviceproxy: --%s has no effect%s\n", name, why)
		return nil
	}
	const help = "no effect; for command lines of kube-proxy"
	for name, why := range tolerated {
		flags.Func(name, help, func(string) error { return tell(name, why) })
	}
	for name, why := range toleratedSwitches {
		flags.BoolFunc(name, help, func(string) error { return tell(name, why) })
	}
}
