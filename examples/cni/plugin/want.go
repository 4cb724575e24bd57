package plugin

import (
	"crypto/sha256"
	"encoding/base32"
	"fmt"
	"strings"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/veth"
)

// owner marks what the plugin made: it begins the alias of each link.
const owner = "podplumb-cni"

// digest is what names and MAC addresses of an attachment are made of, so that they are known before anything exists.
func digest(k record.Key) [sha256.Size]byte {
	return sha256.Sum256([]byte(k.Network + "\x00" + k.ContainerID + "\x00" + k.IfName))
}

// linkName is the name of the node's end of the pair: 55 bits of the digest after the prefix by which other programs on a node, such as
// NetworkManager, know to leave a link alone.
func linkName(k record.Key) string {
	d := digest(k)
	return "veth" + strings.ToLower(base32.HexEncoding.EncodeToString(d[:]))[:11]
}

// attachmentTag is the attachment's name in a link's alias: network/container/interface where that fits into an alias, which has 255
// bytes for everything, and otherwise the link's name alone.
func attachmentTag(k record.Key, netns string) string {
	full := k.String()
	if len(owner)+1+len(full)+len(" netns=")+len(netns) > 255 {
		return linkName(k)
	}
	return full
}

// taggedKey is what attachmentTag made the alias of a link of.
func taggedKey(alias string) (record.Key, bool) {
	tag, ok := strings.CutPrefix(alias, owner+"/")
	tag, _, _ = strings.Cut(tag, " ")
	parts := strings.Split(tag, "/")
	if !ok || len(parts) != 3 {
		return record.Key{}, false
	}
	return record.Key{Network: parts[0], ContainerID: parts[1], IfName: parts[2]}, true
}

// hostMAC and podMAC are locally administered addresses (IEEE 802, bit 1 of the first byte). The container's follows from its IPv4
// address, if it has one, so that neighbours who knew the address's last container know the next one too.
func hostMAC(k record.Key) veth.MAC {
	d := digest(k)
	return veth.MAC{0x02, d[11], d[12], d[13], d[14], d[15]}
}

func podMAC(k record.Key, addrs []address) veth.MAC {
	for _, a := range addrs {
		if ip := a.prefix.Addr(); ip.Is4() {
			b := ip.As4()
			return veth.MAC{0x0a, 0x58, b[0], b[1], b[2], b[3]}
		}
	}
	d := digest(k)
	return veth.MAC{0x06, d[16], d[17], d[18], d[19], d[20]}
}

// nodeSysctls are the switches of the node that the network needs.
func (r *request) nodeSysctls(addrs []address) map[string]string {
	out := map[string]string{}
	for _, a := range addrs {
		switch {
		case r.net.Mode == conf.BridgeMode && !r.net.IsGateway && !r.net.IPMasq && len(r.net.Runtime.PortMappings) == 0:
		case a.prefix.Addr().Is4():
			out["net.ipv4.ip_forward"] = "1"
		default:
			out["net.ipv6.conf.all.forwarding"] = "1"
		}
	}
	return out
}

// label is the attachment's name in the table, where 64 bytes are free.
func label(k record.Key) string {
	s := fmt.Sprintf("%s %s", linkName(k), k.ContainerID)
	return s[:min(len(s), 64)]
}
