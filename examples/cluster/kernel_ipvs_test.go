package main_test

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/internal/kerneltest"
	"github.com/podplumb/podplumb/ipvs"
)

// TestVirtualServers: the shipped scenario on IPVS, whose listing is that of ipvsadm.
func TestVirtualServers(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	probe, err := ipvs.New(ipvs.Config{Owns: ipvs.Everything()})
	if err == nil {
		err = probe.Close()
	}
	kerneltest.Needs(t, "ipvs", err)
	stdout, stderr := machine.Run(t, 0, "-backend", "ipvs")
	require.Empty(t, stderr)
	require.NotContains(t, stdout, "FAILED")
	require.Contains(t, stdout, "\nok      Service my-service at 10.96.0.10:80/TCP\n")
	require.Contains(t, stdout, "\nok      Service my-service at [fd00:10:96::a]:80/TCP\n")
	require.Contains(t, stdout, "\nok      Service kube-system/kube-dns at [fd00:10:96::35]:53/UDP\n")
	require.Contains(t, stdout, "\nok      names: 18 questions from pods, every answer as the manifests say\n")
	for _, node := range []string{"node-a", "node-b"} {
		require.Regexp(t, "virtual servers of "+node+`\n  IP Virtual Server version 1\.2\.1 \(size=\d+\)\n(?s:.*?)\n  TCP  10\.96\.0\.10:80 rr\n`+
			server("10.244.1.5:8080")+server("10.244.1.6:8080")+server("10.244.2.3:8080"), stdout)
	}
	require.Contains(t, stdout, "TCP  [fd00:10:96::a]:80 rr\n")
}

func server(address string) string {
	return "    -> " + regexp.QuoteMeta(address) + ` +Masq +1 +\d+ +\d+\n`
}

func TestUnknownBackend(t *testing.T) {
	machine := kerneltest.NewMachine(t)
	_, stderr := machine.Run(t, 2, "-backend", "iptables")
	require.Contains(t, stderr, "there are nat and ipvs")
}
