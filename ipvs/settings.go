package ipvs

import "time"

// Timeouts are how long the namespace's connections stay without a packet, in whole seconds. The kernel starts with 15 minutes, 2 minutes
// and 5 minutes.
type Timeouts struct {
	TCP    time.Duration // established TCP
	TCPFin time.Duration // TCP after a FIN
	UDP    time.Duration
}

func (t Timeouts) validate() error {
	var f faults
	for i, d := range []time.Duration{t.TCP, t.TCPFin, t.UDP} {
		if d < 0 || d%time.Second != 0 || d > maxTimeout {
			f.at("timeouts", i)
			f.add("", "%s is not whole seconds up to %s", d, maxTimeout)
		}
	}
	return f.join()
}

// Sysctls are the switches of a namespace's IPVS, net.ipv4.vs.*; they hold for IPv6 too (Documentation/networking/ipvs-sysctl.rst).
type Sysctls struct {
	// Conntrack lets connection tracking see the connections of services: needed for masquerading clients (a pod that reaches itself
	// through its service, a node port), for rules by connection state and for policies that must see both directions. The kernel
	// starts with false. It needs CONFIG_IP_VS_NFCT.
	Conntrack bool

	// ConnReuseMode says what happens when a client uses a port again whose old connection is still in the table: 0 keeps its
	// destination, even a drained one; 1 schedules anew; 2 does so only for those in a FIN wait. The kernel starts with 1. Before
	// Linux 5.9 mode 1 with Conntrack delays such connections by one second.
	ConnReuseMode int

	// ExpireNodest resets connections whose destination was removed at their next packet. Without it their packets vanish until the
	// client gives up. The kernel starts with false.
	ExpireNodest bool

	// ExpireQuiescent makes persistent clients of a destination with weight 0 choose another at their next connection. Without it draining
	// a persistent service never ends. The kernel starts with false.
	ExpireQuiescent bool

	// SloppyTCP makes connections of packets other than SYN: a director takes over another's connections without having been told of
	// them, to be used with SourceHashing or Maglev. It also makes connections of stray packets. The kernel starts with false.
	SloppyTCP bool
}

// Recommended is what serves clusters: connections seen by connection tracking, and none that hang on what is drained or removed.
func Recommended() Sysctls {
	return Sysctls{Conntrack: true, ConnReuseMode: 1, ExpireNodest: true, ExpireQuiescent: true}
}
