package rtnl

import "github.com/vishvananda/netlink/nl"

// BridgeAttrs are the settings of a bridge (IFLA_BR_*). Nil leaves a setting alone; a read bridge has all that the kernel told.
type BridgeAttrs struct {
	VLANFiltering   *bool
	DefaultPVID     *uint16 // 0 gives new ports no VLAN at all
	McastSnooping   *bool
	STP             *uint32 // 0 off, 1 kernel, 2 user space
	ForwardDelay    *uint32 // in USER_HZ, 1/100 s
	AgeingTime      *uint32 // in USER_HZ, 1/100 s
	GroupFwdMask    *uint16
	NFCallIPTables  *bool // br_netfilter for this bridge
	NFCallIP6Tables *bool
}

func (a *BridgeAttrs) encode(to *nl.RtAttr) {
	putFlag(to, nl.IFLA_BR_VLAN_FILTERING, a.VLANFiltering)
	putU16(to, nl.IFLA_BR_VLAN_DEFAULT_PVID, a.DefaultPVID)
	putFlag(to, nl.IFLA_BR_MCAST_SNOOPING, a.McastSnooping)
	putU32(to, nl.IFLA_BR_STP_STATE, a.STP)
	putU32(to, nl.IFLA_BR_FORWARD_DELAY, a.ForwardDelay)
	putU32(to, nl.IFLA_BR_AGEING_TIME, a.AgeingTime)
	putU16(to, nl.IFLA_BR_GROUP_FWD_MASK, a.GroupFwdMask)
	putFlag(to, nl.IFLA_BR_NF_CALL_IPTABLES, a.NFCallIPTables)
	putFlag(to, nl.IFLA_BR_NF_CALL_IP6TABLES, a.NFCallIP6Tables)
}

func parseBridge(b []byte) *BridgeAttrs {
	a := &BridgeAttrs{}
	for kind, v := range attrs(b) {
		switch kind {
		case nl.IFLA_BR_VLAN_FILTERING:
			a.VLANFiltering = ptr(getU8(v) != 0)
		case nl.IFLA_BR_VLAN_DEFAULT_PVID:
			a.DefaultPVID = ptr(getU16(v))
		case nl.IFLA_BR_MCAST_SNOOPING:
			a.McastSnooping = ptr(getU8(v) != 0)
		case nl.IFLA_BR_STP_STATE:
			a.STP = ptr(getU32(v))
		case nl.IFLA_BR_FORWARD_DELAY:
			a.ForwardDelay = ptr(getU32(v))
		case nl.IFLA_BR_AGEING_TIME:
			a.AgeingTime = ptr(getU32(v))
		case nl.IFLA_BR_GROUP_FWD_MASK:
			a.GroupFwdMask = ptr(getU16(v))
		case nl.IFLA_BR_NF_CALL_IPTABLES:
			a.NFCallIPTables = ptr(getU8(v) != 0)
		case nl.IFLA_BR_NF_CALL_IP6TABLES:
			a.NFCallIP6Tables = ptr(getU8(v) != 0)
		}
	}
	return a
}

func ptr[T any](v T) *T { return &v }

// PortAttrs are the settings of a bridge port (IFLA_BRPORT_*). Nil leaves a setting alone.
type PortAttrs struct {
	Hairpin       *bool // a frame may leave by the port that it came in on
	Isolated      *bool // talks only to ports that are not isolated
	Learning      *bool
	UnicastFlood  *bool
	McastFlood    *bool
	BcastFlood    *bool
	NeighSuppress *bool
	Locked        *bool
	State         *uint8 // BR_STATE_*: 3 is forwarding
}

func (a *PortAttrs) encode(to *nl.RtAttr) {
	putFlag(to, nl.IFLA_BRPORT_MODE, a.Hairpin)
	putFlag(to, nl.IFLA_BRPORT_ISOLATED, a.Isolated)
	putFlag(to, nl.IFLA_BRPORT_LEARNING, a.Learning)
	putFlag(to, nl.IFLA_BRPORT_UNICAST_FLOOD, a.UnicastFlood)
	putFlag(to, nl.IFLA_BRPORT_MCAST_FLOOD, a.McastFlood)
	putFlag(to, nl.IFLA_BRPORT_BCAST_FLOOD, a.BcastFlood)
	putFlag(to, nl.IFLA_BRPORT_NEIGH_SUPPRESS, a.NeighSuppress)
	putFlag(to, nl.IFLA_BRPORT_LOCKED, a.Locked)
	putU8(to, nl.IFLA_BRPORT_STATE, a.State)
}

func parsePort(b []byte) *PortAttrs {
	a := &PortAttrs{}
	for kind, v := range attrs(b) {
		switch kind {
		case nl.IFLA_BRPORT_MODE:
			a.Hairpin = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_ISOLATED:
			a.Isolated = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_LEARNING:
			a.Learning = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_UNICAST_FLOOD:
			a.UnicastFlood = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_MCAST_FLOOD:
			a.McastFlood = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_BCAST_FLOOD:
			a.BcastFlood = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_NEIGH_SUPPRESS:
			a.NeighSuppress = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_LOCKED:
			a.Locked = ptr(getU8(v) != 0)
		case nl.IFLA_BRPORT_STATE:
			a.State = ptr(getU8(v))
		}
	}
	return a
}
