package nstest

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// tries holds how each feature is tried, by a function that runs in a fresh
// namespace. nil: the namespace itself was the trial.
var tries = map[Feature]func() error{
	NetNS:         nil,
	Root:          tryRoot,
	IPv6:          tryFile("/proc/thread-self/net/if_inet6"),
	BrNetfilter:   tryFile("/proc/sys/net/bridge/bridge-nf-call-iptables"),
	Veth:          func() error { return addVeth("a", "b", -1) },
	Bridge:        func() error { return addLink("a", "bridge", nil, nil) },
	VLANFiltering: tryVLANFiltering,
	Dummy:         func() error { return addLink("a", "dummy", nil, nil) },
	IFB:           func() error { return addLink("a", "ifb", nil, nil) },
	WireGuard:     func() error { return addLink("a", "wireguard", nil, nil) },
	VXLAN: func() error {
		return addLink("a", "vxlan", func(d *netlink.AttributeEncoder) {
			d.Uint32(unix.IFLA_VXLAN_ID, 1)
			d.Bytes(unix.IFLA_VXLAN_PORT, networkOrder(4789))
		}, nil)
	},
	Geneve: func() error {
		return addLink("a", "geneve", func(d *netlink.AttributeEncoder) {
			d.Uint32(unix.IFLA_GENEVE_ID, 1)
			d.Bytes(unix.IFLA_GENEVE_REMOTE, []byte{192, 0, 2, 1})
		}, nil)
	},
	VRF: func() error {
		return addLink("a", "vrf", func(d *netlink.AttributeEncoder) { d.Uint32(unix.IFLA_VRF_TABLE, 10) }, nil)
	},
	Macvlan: tryUpper("macvlan", func(d *netlink.AttributeEncoder) { d.Uint32(unix.IFLA_MACVLAN_MODE, macvlanBridge) }),
	IPVlan:  tryUpper("ipvlan", nil),
	VLAN:    tryUpper("vlan", func(d *netlink.AttributeEncoder) { d.Uint16(unix.IFLA_VLAN_ID, 7) }),
	TUN:     tryTUN,
	NFTables: func() error {
		return errors.Join(tryTable(unix.NFPROTO_IPV4, 0), tryTable(unix.NFPROTO_IPV6, 0), tryTable(unix.NFPROTO_INET, 0))
	},
	NFTBridge: func() error { return tryTable(unix.NFPROTO_BRIDGE, 0) },
	NFTOwner:  func() error { return tryTable(unix.NFPROTO_INET, tableOwner|tablePersist) },
	Conntrack: tryConntrack,
	IPVS:      tryIPVS,
}

// release is what uname -r prints.
func release() string {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return ""
	}
	return unix.ByteSliceToString(name.Release[:])
}

func tryFile(path string) func() error {
	return func() error { _, err := os.Stat(path); return err }
}

func tryRoot() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the user id is %d", os.Geteuid())
	}
	m, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return err
	}
	if f := strings.Fields(string(m)); len(f) != 3 || f[0] != "0" || f[1] != "0" || f[2] != "4294967295" {
		return errors.New("this is a user namespace")
	}
	return nil
}

// tryVLANFiltering reads the setting back, since a kernel without it ignores it.
func tryVLANFiltering() error {
	err := addLink("a", "bridge", func(d *netlink.AttributeEncoder) { d.Uint8(unix.IFLA_BR_VLAN_FILTERING, 1) }, nil)
	if err != nil {
		return err
	}
	info, err := linkInfo("a")
	if err != nil {
		return err
	}
	if on := info[unix.IFLA_BR_VLAN_FILTERING]; len(on) != 1 || on[0] != 1 {
		return errors.New("the kernel ignores vlan_filtering of a bridge")
	}
	return nil
}

// tryUpper tries a link that lies on another one.
func tryUpper(kind string, data func(*netlink.AttributeEncoder)) func() error {
	return func() error {
		if err := addVeth("a", "b", -1); err != nil {
			return err
		}
		lower, err := linkIndex("a")
		if err != nil {
			return err
		}
		return addLink("u", kind, data, func(ae *netlink.AttributeEncoder) { ae.Uint32(unix.IFLA_LINK, uint32(lower)) })
	}
}

func tryTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	ifr, err := unix.NewIfreq("a")
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

// macvlanBridge is MACVLAN_MODE_BRIDGE of linux/if_link.h.
const macvlanBridge = 4

// Flags of linux/netfilter/nf_tables.h that x/sys does not name.
const (
	tableOwner   = 0x2
	tablePersist = 0x4
)

// nfgen returns a struct nfgenmsg of linux/netfilter/nfnetlink.h.
func nfgen(family uint8, resource uint16) []byte {
	return append([]byte{family, unix.NFNETLINK_V0}, networkOrder(resource)...)
}

// tryTable commits one nftables table.
func tryTable(family uint8, flags uint32) error {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	table, err := encode(nfgen(family, 0), func(ae *netlink.AttributeEncoder) {
		ae.String(unix.NFTA_TABLE_NAME, "probe")
		ae.Bytes(unix.NFTA_TABLE_FLAGS, []byte{0, 0, 0, byte(flags)})
	})
	if err != nil {
		return err
	}
	message := func(kind uint16, flags netlink.HeaderFlags, data []byte) netlink.Message {
		return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | flags}, Data: data}
	}
	if err := conn.SetDeadline(deadline(wireTimeout)); err != nil {
		return err
	}
	_, err = conn.SendMessages([]netlink.Message{
		message(unix.NFNL_MSG_BATCH_BEGIN, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)),
		message(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE, netlink.Create|netlink.Acknowledge, table),
		message(unix.NFNL_MSG_BATCH_END, 0, nfgen(unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)),
	})
	if err != nil {
		return err
	}
	_, err = conn.Receive()
	return err
}

// tryConntrack dumps the table, which is empty, by a fresh socket.
func tryConntrack() error {
	if err := tryFile("/proc/sys/net/netfilter/nf_conntrack_max")(); err != nil {
		return err
	}
	const get = 1 // IPCTNL_MSG_CT_GET of linux/netfilter/nfnetlink_conntrack.h
	_, err := request(unix.NETLINK_NETFILTER, unix.NFNL_SUBSYS_CTNETLINK<<8|get, netlink.Dump, nfgen(unix.AF_INET, 0))
	return err
}

// tryIPVS asks the IPVS family for its version; naming the family loads the module.
func tryIPVS() error {
	msg, err := encode([]byte{unix.CTRL_CMD_GETFAMILY, 1, 0, 0}, func(ae *netlink.AttributeEncoder) {
		ae.String(unix.CTRL_ATTR_FAMILY_NAME, "IPVS")
	})
	if err != nil {
		return err
	}
	answers, err := request(unix.NETLINK_GENERIC, unix.GENL_ID_CTRL, netlink.Acknowledge, msg)
	if err != nil {
		return err
	}
	if len(answers) == 0 || len(answers[0].Data) < 4 {
		return errors.New("the kernel's answer is short")
	}
	ad, err := netlink.NewAttributeDecoder(answers[0].Data[4:])
	if err != nil {
		return err
	}
	var family uint16
	for ad.Next() {
		if ad.Type() == unix.CTRL_ATTR_FAMILY_ID {
			family = ad.Uint16()
		}
	}
	const getInfo = 15 // IPVS_CMD_GET_INFO of linux/ip_vs.h
	_, err = request(unix.NETLINK_GENERIC, family, netlink.Acknowledge, []byte{getInfo, 1, 0, 0})
	return err
}
