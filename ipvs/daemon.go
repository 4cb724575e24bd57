package ipvs

import (
	"fmt"
	"net/netip"
)

// Role is what a synchronization daemon does.
type Role uint8

// The roles. A namespace may have one daemon of each.
const (
	Master Role = 1 // tells other directors of its connections by multicast
	Backup Role = 2 // takes over what a master tells, to carry on when that fails
)

var roleNames = map[Role]string{Master: "master", Backup: "backup"}

// String returns "master" or "backup".
func (r Role) String() string { return name(roleNames, r, "role") }

// MarshalText returns the name.
func (r Role) MarshalText() ([]byte, error) { return marshal(roleNames, r) }

// UnmarshalText reads the name.
func (r *Role) UnmarshalText(b []byte) error { return unmarshal(roleNames, r, b) }

// Daemon is a kernel thread that keeps directors informed of each other's connections. Connections of destinations of another address
// family than their service are not synchronized, and the kernel refuses to have both.
type Daemon struct {
	Role      Role
	Interface string     // of the multicast
	SyncID    uint8      // a backup listens to masters with its own number; 0 on a backup means all
	MaxLen    uint16     // bytes of a message; 0 means what fits the interface's MTU
	Group     netip.Addr // IPv4 or IPv6 multicast; zero means 224.0.0.81
	Port      uint16     // UDP; 0 means 8848
	TTL       uint8      // 0 means 1: the link only
}

// The kernel's defaults.
const (
	defaultSyncPort = 8848
	defaultSyncTTL  = 1
)

// canonical spells out the defaults but that of MaxLen, which only the kernel knows.
func (d Daemon) canonical() Daemon {
	if !d.Group.IsValid() {
		d.Group = netip.AddrFrom4([4]byte{224, 0, 0, 81})
	}
	if d.Port == 0 {
		d.Port = defaultSyncPort
	}
	if d.TTL == 0 {
		d.TTL = defaultSyncTTL
	}
	return d
}

func (d Daemon) validate() error {
	var f faults
	f.at("daemon", int(d.Role))
	if _, ok := roleNames[d.Role]; !ok {
		f.add(".role", "%d is neither master nor backup", uint8(d.Role))
	}
	if d.Interface == "" || len(d.Interface) > maxName {
		f.add(".interface", "%q is not a name of 1 to %d bytes", d.Interface, maxName)
	}
	if d.Group.IsValid() && (!d.Group.IsMulticast() || d.Group.Zone() != "" || d.Group.Is4In6()) {
		f.add(".group", "%s is not a multicast address", d.Group)
	}
	return f.join()
}

// Attributes of a daemon in linux/ip_vs.h.
const (
	daemonState     = 1
	daemonInterface = 2
	daemonSyncID    = 3
	daemonMaxLen    = 4
	daemonGroup     = 5
	daemonGroup6    = 6
	daemonPort      = 7
	daemonTTL       = 8
)

// daemon adds the attribute that describes a canonical daemon. Unlike the ports of services this one is in host order.
func (e *encoder) daemon(d *Daemon) {
	at := e.open(attrDaemon)
	e.u32(daemonState, uint32(d.Role))
	e.text(daemonInterface, d.Interface)
	e.u32(daemonSyncID, uint32(d.SyncID))
	if d.MaxLen != 0 {
		e.u16(daemonMaxLen, d.MaxLen)
	}
	if d.Group.Is4() {
		b := d.Group.As4()
		e.header(daemonGroup, 4)
		e.b = append(e.b, b[:]...)
	} else {
		e.address(daemonGroup6, d.Group)
	}
	e.u16(daemonPort, d.Port)
	e.u8(daemonTTL, d.TTL)
	e.close(at)
}

func decodeDaemon(b []byte) (Daemon, error) {
	var d Daemon
	a := attributes{b: b}
	for a.next() {
		switch a.kind {
		case daemonState:
			d.Role = Role(a.u32())
		case daemonInterface:
			d.Interface = string(a.text())
		case daemonSyncID:
			d.SyncID = uint8(a.u32())
		case daemonMaxLen:
			d.MaxLen = a.u16()
		case daemonGroup:
			d.Group = a.address(IPv4)
		case daemonGroup6:
			d.Group = a.address(IPv6)
		case daemonPort:
			d.Port = a.u16()
		case daemonTTL:
			d.TTL = a.u8()
		}
	}
	if a.err == nil && roleNames[d.Role] == "" {
		return d, fmt.Errorf("%w: daemon of role %d", errMalformed, d.Role)
	}
	return d, a.err
}
