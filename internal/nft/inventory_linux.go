package nft

import (
	"context"

	"golang.org/x/sys/unix"
)

// Inventory is what a table has, by name.
type Inventory struct {
	Chains   map[string]ChainInfo
	Sets     map[string]string // comments
	Counters map[string]CounterInfo
}

// ChainInfo is what the kernel tells of a chain.
type ChainInfo struct {
	Hook   *Hook    // nil for a chain that is led to
	Stamps []uint64 // of its rules; zero for a rule that no model made
}

// CounterInfo is what a counter has counted.
type CounterInfo struct {
	Comment        string
	Packets, Bytes uint64
}

// Inventory lists a table's chains, sets and counters.
func (c *Conn) Inventory(ctx context.Context, t *Table) (Inventory, error) {
	var inv Inventory
	stamps, err := c.ruleStamps(ctx, t)
	if err != nil {
		return inv, err
	}
	if inv.Chains, err = c.chains(ctx, t); err != nil {
		return inv, err
	}
	for name, list := range stamps {
		info := inv.Chains[name]
		info.Stamps = list
		inv.Chains[name] = info
	}
	if inv.Sets, err = c.sets(ctx, t); err != nil {
		return inv, err
	}
	inv.Counters, err = c.Counters(ctx, t)
	return inv, err
}

func (c *Conn) sets(ctx context.Context, t *Table) (map[string]string, error) {
	var list map[string]string
	err := c.dump(ctx, unix.NFT_MSG_GETSET, t.Family, false, func(w *wire) { w.string(unix.NFTA_SET_TABLE, t.Name) },
		func() { list = map[string]string{} },
		func(m message) {
			var table, name, comment string
			attrs(m.data, func(typ uint16, data []byte) {
				switch typ {
				case unix.NFTA_SET_TABLE:
					table = cstring(data)
				case unix.NFTA_SET_NAME:
					name = cstring(data)
				case unix.NFTA_SET_USERDATA:
					comment = findUdataString(data, udSetComment)
				}
			})
			if table == t.Name {
				list[name] = comment
			}
		})
	return list, err
}

func (c *Conn) chains(ctx context.Context, t *Table) (map[string]ChainInfo, error) {
	var list map[string]ChainInfo
	err := c.dump(ctx, unix.NFT_MSG_GETCHAIN, t.Family, false, func(w *wire) { w.string(unix.NFTA_CHAIN_TABLE, t.Name) },
		func() { list = map[string]ChainInfo{} },
		func(m message) {
			var table, name, kind string
			var hook *Hook
			attrs(m.data, func(typ uint16, data []byte) {
				switch typ {
				case unix.NFTA_CHAIN_TABLE:
					table = cstring(data)
				case unix.NFTA_CHAIN_NAME:
					name = cstring(data)
				case unix.NFTA_CHAIN_TYPE:
					kind = cstring(data)
				case unix.NFTA_CHAIN_HOOK:
					hook = &Hook{}
					attrs(data, func(typ uint16, data []byte) {
						switch typ {
						case unix.NFTA_HOOK_HOOKNUM:
							hook.Point = HookPoint(be32(data))
						case unix.NFTA_HOOK_PRIORITY:
							hook.Priority = int32(be32(data))
						}
					})
				}
			})
			if table != t.Name {
				return
			}
			if hook != nil {
				hook.Type = kind
			}
			list[name] = ChainInfo{Hook: hook}
		})
	return list, err
}

// Counters lists a table's counters and what they have counted.
func (c *Conn) Counters(ctx context.Context, t *Table) (map[string]CounterInfo, error) {
	var list map[string]CounterInfo
	err := c.dump(ctx, unix.NFT_MSG_GETOBJ, t.Family, false, func(w *wire) {
		w.string(unix.NFTA_OBJ_TABLE, t.Name)
		w.uint32(unix.NFTA_OBJ_TYPE, objectCounter)
	}, func() { list = map[string]CounterInfo{} }, func(m message) {
		var table, name string
		var info CounterInfo
		attrs(m.data, func(typ uint16, data []byte) {
			switch typ {
			case unix.NFTA_OBJ_TABLE:
				table = cstring(data)
			case unix.NFTA_OBJ_NAME:
				name = cstring(data)
			case objectUserdata:
				info.Comment = findUdataString(data, udObjectComment)
			case unix.NFTA_OBJ_DATA:
				attrs(data, func(typ uint16, data []byte) {
					switch typ {
					case unix.NFTA_COUNTER_BYTES:
						info.Bytes = be64(data)
					case unix.NFTA_COUNTER_PACKETS:
						info.Packets = be64(data)
					}
				})
			}
		})
		if table == t.Name {
			list[name] = info
		}
	})
	return list, err
}
