package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// TableInfo is what the kernel knows about a table.
type TableInfo struct {
	Stamp   uint64 // of the model that made it; zero when none did
	Comment string
	Owner   uint32 // port ID of the socket that owns it, or zero
	Persist bool
}

// Table returns what the kernel knows about a table. It fails with
// fs.ErrNotExist when there is none.
func (c *Conn) Table(ctx context.Context, family Family, name string) (TableInfo, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var info TableInfo
	err := c.ask(ctx, unix.NFT_MSG_GETTABLE, 0, family, func(w *wire) { w.string(unix.NFTA_TABLE_NAME, name) }, func(m message) {
		attrs(m.data, func(typ uint16, data []byte) {
			switch typ {
			case unix.NFTA_TABLE_FLAGS:
				info.Persist = be32(data)&tablePersist != 0
			case tableUserdata:
				info.Comment = findUdataString(data, udTableComment)
				if v, ok := findUdata(data, udStamp); ok && len(v) == 8 {
					info.Stamp = binary.BigEndian.Uint64(v)
				}
			case tableOwnerID:
				info.Owner = be32(data)
			}
		})
	})
	if errors.Is(err, unix.ENOENT) {
		err = fs.ErrNotExist
	}
	return info, err
}

const tableOwnerID = 7 // NFTA_TABLE_OWNER

// Elements calls each for every element of a set. The Element and its bytes
// are valid only during the call. When the dump was interrupted it begins
// again; reset is called before every beginning. With owned nobody else can
// have changed the set, so that others' transactions do not count.
//
// A hash table that grows in the background, as it does after many additions,
// makes the kernel leave out elements or list them twice. Where the kernel
// tells the number of elements (6.16) the list is checked against it; expired
// elements of dynamic sets count but are not listed.
func (c *Conn) Elements(ctx context.Context, t *Table, s *Set, owned bool, reset func(), each func(*Element)) error {
	for try := range tries {
		count := 0
		err := c.dump(ctx, unix.NFT_MSG_GETSETELEM, t.Family, owned, func(w *wire) {
			w.string(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
			w.string(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		}, func() { count = 0; reset() }, func(m message) {
			attrs(m.data, func(typ uint16, data []byte) {
				if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
					return
				}
				attrs(data, func(_ uint16, data []byte) {
					e := decodeElement(data)
					count++
					each(&e)
				})
			})
		})
		if err != nil || s.Interval || s.Dynamic || s.Counted {
			return err
		}
		want, ok, err := c.setCount(ctx, t, s)
		if err != nil || !ok || want == count {
			return err
		}
		time.Sleep(time.Duration(try+1) * time.Millisecond)
	}
	return ErrInterrupted
}

// setCount asks for the number of a set's elements; false when the kernel
// does not tell.
func (c *Conn) setCount(ctx context.Context, t *Table, s *Set) (n int, ok bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	err = c.ask(ctx, unix.NFT_MSG_GETSET, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_SET_TABLE, t.Name)
		w.string(unix.NFTA_SET_NAME, s.Name)
	}, func(m message) {
		attrs(m.data, func(typ uint16, data []byte) {
			if typ == setCount {
				n, ok = int(be32(data)), true
			}
		})
	})
	return n, ok, err
}

const setCount = 20 // NFTA_SET_COUNT

func decodeElement(b []byte) Element {
	var e Element
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			e.Key, _ = decodeData(data)
		case elemKeyEnd:
			e.KeyEnd, _ = decodeData(data)
		case unix.NFTA_SET_ELEM_DATA:
			e.Data, e.Verdict = decodeData(data)
		case elemExpr:
			e.Counter, e.Packets, e.Bytes = decodeCounter(data)
		case unix.NFTA_SET_ELEM_FLAGS:
			e.End = be32(data)&unix.NFT_SET_ELEM_INTERVAL_END != 0
		case unix.NFTA_SET_ELEM_USERDATA:
			e.Comment = findUdataString(data, udElemComment)
			e.Extra, _ = findUdata(data, udExtra)
		}
	})
	return e
}

func decodeCounter(b []byte) (counts bool, packets, bytes uint64) {
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_EXPR_NAME:
			counts = cstring(data) == "counter"
		case unix.NFTA_EXPR_DATA:
			attrs(data, func(typ uint16, data []byte) {
				switch typ {
				case unix.NFTA_COUNTER_PACKETS:
					packets = be64(data)
				case unix.NFTA_COUNTER_BYTES:
					bytes = be64(data)
				}
			})
		}
	})
	return counts, packets, bytes
}

func decodeData(b []byte) (value []byte, verdict *Verdict) {
	attrs(b, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_DATA_VALUE:
			value = data
		case unix.NFTA_DATA_VERDICT:
			verdict = &Verdict{}
			attrs(data, func(typ uint16, data []byte) {
				switch typ {
				case unix.NFTA_VERDICT_CODE:
					verdict.Code = VerdictCode(int32(be32(data)))
				case unix.NFTA_VERDICT_CHAIN:
					verdict.Chain = cstring(data)
				}
			})
		}
	})
	return value, verdict
}

// Intact says that the table holds exactly the chains and rules of t and of
// extra, and at least the sets of t.
func (c *Conn) Intact(ctx context.Context, t *Table, extra []*Chain) (bool, error) {
	want := make(map[string][]uint64)
	for _, chain := range slices.Concat(t.Chains, extra) {
		stamps := []uint64{}
		for _, r := range chain.Rules {
			stamps = append(stamps, r.stamp())
		}
		want[chain.Name] = stamps
	}
	have, err := c.ruleStamps(ctx, t)
	if err != nil {
		return false, err
	}
	chains, err := c.names(ctx, t, unix.NFT_MSG_GETCHAIN, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME)
	if err != nil || len(chains) != len(want) {
		return false, err
	}
	for name, stamps := range want {
		if !slices.Contains(chains, name) || !slices.Equal(stamps, have[name]) {
			return false, nil
		}
	}
	sets, err := c.names(ctx, t, unix.NFT_MSG_GETSET, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	if err != nil {
		return false, err
	}
	for _, s := range t.Sets {
		if !slices.Contains(sets, s.Name) {
			return false, nil
		}
	}
	return true, nil
}

// ruleStamps lists the stamps of the rules by chain. A rule without one
// counts as zero.
func (c *Conn) ruleStamps(ctx context.Context, t *Table) (map[string][]uint64, error) {
	var have map[string][]uint64
	err := c.dump(ctx, unix.NFT_MSG_GETRULE, t.Family, false, func(w *wire) { w.string(unix.NFTA_RULE_TABLE, t.Name) },
		func() { have = make(map[string][]uint64) },
		func(m message) {
			var table, chain string
			var stamp uint64
			attrs(m.data, func(typ uint16, data []byte) {
				switch typ {
				case unix.NFTA_RULE_TABLE:
					table = cstring(data)
				case unix.NFTA_RULE_CHAIN:
					chain = cstring(data)
				case unix.NFTA_RULE_USERDATA:
					if v, ok := findUdata(data, udStamp); ok && len(v) == 8 {
						stamp = binary.BigEndian.Uint64(v)
					}
				}
			})
			if table == t.Name {
				have[chain] = append(have[chain], stamp)
			}
		})
	return have, err
}

// names lists the names of a table's chains or sets.
func (c *Conn) names(ctx context.Context, t *Table, typ, tableAttr, nameAttr uint16) ([]string, error) {
	var list []string
	err := c.dump(ctx, typ, t.Family, false, func(w *wire) { w.string(tableAttr, t.Name) },
		func() { list = nil },
		func(m message) {
			var table, name string
			attrs(m.data, func(typ uint16, data []byte) {
				switch typ {
				case tableAttr:
					table = cstring(data)
				case nameAttr:
					name = cstring(data)
				}
			})
			if table == t.Name {
				list = append(list, name)
			}
		})
	return list, err
}
