package nft

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// filtering is a statement that lowers itself.
type filtering interface {
	Stmt
	lower(l *lowering, reg uint32)
}

func (s Between) lower(l *lowering, reg uint32) {
	l.load(s.Field, reg)
	l.cmp(expr.CmpOpGte, reg, s.Lo)
	l.cmp(expr.CmpOpLte, reg, s.Hi)
}

func (s Bits) lower(l *lowering, reg uint32) {
	l.load(s.Field, reg)
	l.and(reg, []byte{s.Mask})
	op := expr.CmpOpEq
	if s.Not {
		op = expr.CmpOpNeq
	}
	l.cmp(op, reg, []byte{s.Value})
}

func (s Limit) lower(l *lowering, _ uint32) {
	l.add(&expr.Limit{Type: expr.LimitTypePkts, Rate: uint64(s.Rate), Unit: expr.LimitTimeSecond, Burst: s.Burst})
}

func (s Log) lower(l *lowering, _ uint32) {
	l.add(&expr.Log{
		Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX | 1<<unix.NFTA_LOG_SNAPLEN,
		Group: s.Group, Snaplen: s.Bytes, Data: []byte(s.Prefix),
	})
}

func (Prohibit) lower(l *lowering, _ uint32) {
	l.add(&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED})
}

const objectCounter = 1 // NFT_OBJECT_COUNTER

// From linux/netfilter/nf_tables.h; x/sys/unix lacks it.
const objectUserdata = 8 // NFTA_OBJ_USERDATA

// AddCounter adds a counter to a table. One that exists goes on counting.
func (b *Batch) AddCounter(t *Table, c Counter) {
	b.message(unix.NFT_MSG_NEWOBJ, unix.NLM_F_CREATE, t.Family, func(w *wire) {
		w.string(unix.NFTA_OBJ_TABLE, t.Name)
		w.string(unix.NFTA_OBJ_NAME, c.Name)
		w.uint32(unix.NFTA_OBJ_TYPE, objectCounter)
		at := w.open(unix.NFTA_OBJ_DATA)
		w.close(at)
		if c.Comment != "" {
			at := w.openBytes(objectUserdata)
			w.b = udataString(w.b, udObjectComment, c.Comment)
			w.closeBytes(at)
		}
	})
}

const udObjectComment = 0

// DelCounter deletes a counter. No rule may refer to it.
func (b *Batch) DelCounter(t *Table, name string) {
	b.message(unix.NFT_MSG_DELOBJ, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_OBJ_TABLE, t.Name)
		w.string(unix.NFTA_OBJ_NAME, name)
		w.uint32(unix.NFTA_OBJ_TYPE, objectCounter)
	})
}

// AddSet adds a set without elements to a table.
func (b *Batch) AddSet(t *Table, s *Set) { b.set(t, s) }

// DelSet deletes a set with its elements. No rule may refer to it.
func (b *Batch) DelSet(t *Table, name string) {
	b.message(unix.NFT_MSG_DELSET, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_SET_TABLE, t.Name)
		w.string(unix.NFTA_SET_NAME, name)
	})
}

// FlushSet deletes all elements of a set.
func (b *Batch) FlushSet(t *Table, name string) {
	b.message(unix.NFT_MSG_DELSETELEM, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
		w.string(unix.NFTA_SET_ELEM_LIST_SET, name)
	})
}

// NewChain adds a chain without rules, AddRules rules to a chain. Rules may
// refer to chains that were added before.
func (b *Batch) NewChain(t *Table, c *Chain) { b.chain(t, c) }

// AddRules appends the chain's rules.
func (b *Batch) AddRules(t *Table, c *Chain) { b.rules(t, c) }

// FlushChain deletes all rules of a chain.
func (b *Batch) FlushChain(t *Table, name string) {
	b.message(unix.NFT_MSG_DELRULE, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_RULE_TABLE, t.Name)
		w.string(unix.NFTA_RULE_CHAIN, name)
	})
}

// RemoveChain deletes a chain whose rules were deleted before. Nothing may
// lead to it.
func (b *Batch) RemoveChain(t *Table, name string) {
	b.message(unix.NFT_MSG_DELCHAIN, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_CHAIN_TABLE, t.Name)
		w.string(unix.NFTA_CHAIN_NAME, name)
	})
}

func be64(b []byte) uint64 {
	if len(b) < 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
