package netns

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// etcNetNS holds, for each name, the files that ip-netns(8) puts over /etc.
const etcNetNS = "/etc/netns"

// nameServers returns the servers, ip:53, of the namespace's own resolv.conf(5), if it
// has one.
func (ns *NS) nameServers() []string {
	if !ns.valid() || ns.name == "" {
		return nil
	}
	conf, err := os.ReadFile(filepath.Join(etcNetNS, ns.name, "resolv.conf"))
	if err != nil {
		return nil
	}
	return parseNameServers(string(conf))
}

func parseNameServers(conf string) []string {
	var servers []string
	for line := range strings.Lines(conf) {
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(f[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, 53).String())
		}
	}
	return servers
}
