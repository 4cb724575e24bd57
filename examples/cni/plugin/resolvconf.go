package plugin

import (
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/types"
)

// parseResolvConf reads the file that ipam.resolvConf names (resolv.conf(5)).
func parseResolvConf(path string) (types.DNS, error) {
	var d types.DNS
	b, err := os.ReadFile(path)
	if err != nil {
		return d, withCode(types.ErrInvalidNetworkConfig, "name a file in the form of /etc/resolv.conf", fmt.Errorf("ipam.resolvConf: %w", err))
	}
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) < 2 || strings.ContainsAny(fields[0][:1], "#;") {
			continue
		}
		switch fields[0] {
		case "nameserver":
			d.Nameservers = append(d.Nameservers, fields[1])
		case "domain":
			d.Domain = fields[1]
		case "search":
			d.Search = append(d.Search, fields[1:]...)
		case "options":
			d.Options = append(d.Options, fields[1:]...)
		}
	}
	return d, nil
}
