package nft

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"
)

// A Batch is a transaction being written. The zero Batch is not usable; see
// NewBatch.
type Batch struct {
	w       wire
	full    [][]byte // what was written before w
	size    int      // of full
	gen     int      // where the generation's value lies in the first part, to be filled in by Commit
	last    int      // where the last message begins in w
	seq     uint32
	setID   uint32
	changes int
	err     error
	low     lowering // of the rule that is written, whatever is left of it
}

const subsystem = unix.NFNL_SUBSYS_NFTABLES

// Message types of a batch; x/sys/unix has them as untyped int.
const (
	batchBegin = unix.NFNL_MSG_BATCH_BEGIN
	batchEnd   = unix.NFNL_MSG_BATCH_END
)

const firstSeq = 1

// NewBatch returns an empty transaction.
func NewBatch() *Batch {
	b := &Batch{}
	b.Reset()
	return b
}

// Reset makes the batch empty, to be filled anew in the memory that it has.
func (b *Batch) Reset() {
	room := b.w.b
	if len(b.full) > 0 {
		room = b.full[0]
	}
	*b = Batch{seq: firstSeq, w: wire{room[:0]}}
	at := b.w.begin(batchBegin, 0, unix.AF_UNSPEC, subsystem)
	b.w.uint32(unix.NFNL_BATCH_GENID, 0)
	b.gen = len(b.w.b) - 4
	b.w.end(at, b.seq)
}

// Empty says that the batch would change nothing.
func (b *Batch) Empty() bool { return b.changes == 0 }

// Len is the size of the batch in bytes.
func (b *Batch) Len() int { return b.size + len(b.w.b) }

// A large batch is written in parts of part bytes, each of which has spare
// bytes left for the message that it ends with: to have it in one piece would
// take copying it as it grows.
const (
	part  = 256 << 10
	spare = 80 << 10
)

// Changes is the number of messages so far.
func (b *Batch) Changes() int { return b.changes }

func (b *Batch) message(typ, flags uint16, family Family, write func(w *wire)) {
	if len(b.w.b) > part-spare {
		b.full, b.size = append(b.full, b.w.b), b.size+len(b.w.b)
		b.w.b = make([]byte, 0, part)
	}
	b.seq++
	b.last = b.w.begin(subsystem<<8|typ, flags, family, 0)
	write(&b.w)
	b.w.end(b.last, b.seq)
	b.changes++
}

// finish closes the transaction and returns its parts and the number of the
// message whose answer ends it.
func (b *Batch) finish(gen uint32) ([][]byte, uint32) {
	first := b.w.b
	if len(b.full) > 0 {
		first = b.full[0]
	}
	binary.BigEndian.PutUint32(first[b.gen:], gen)
	flags := binary.NativeEndian.Uint16(b.w.b[b.last+6:])
	binary.NativeEndian.PutUint16(b.w.b[b.last+6:], flags|unix.NLM_F_ACK)
	full := b.w
	at := full.begin(batchEnd, 0, unix.AF_UNSPEC, subsystem)
	full.end(at, b.seq+1)
	return append(slices.Clip(b.full), full.b), b.seq
}

// AddTable adds the table with its sets, chains and rules. Adding a table
// that exists adds to it; delete it in the same batch to replace it.
func (b *Batch) AddTable(t *Table) {
	b.table(t, t.Stamp())
	for _, s := range t.Sets {
		b.set(t, s)
	}
	for _, c := range t.Chains {
		b.chain(t, c)
	}
	for _, c := range t.Chains {
		b.rules(t, c)
	}
}

// Table flags of the kernel; x/sys/unix lacks them.
const (
	tableOwner   = 2 // NFT_TABLE_F_OWNER
	tablePersist = 4 // NFT_TABLE_F_PERSIST
)

func (b *Batch) table(t *Table, stamp uint64) {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, t.Family, func(w *wire) {
		w.string(unix.NFTA_TABLE_NAME, t.Name)
		flags := uint32(0)
		if t.Owned {
			flags = tableOwner | tablePersist
		}
		w.uint32(unix.NFTA_TABLE_FLAGS, flags)
		user := udataString(nil, udTableComment, t.Comment)
		user = udata(user, udStamp, binary.BigEndian.AppendUint64(nil, stamp))
		w.bytes(tableUserdata, user)
	})
}

const tableUserdata = 6 // NFTA_TABLE_USERDATA

// OwnTable takes over a table of that stamp that outlived its owner. Nothing
// else of t is looked at.
func (b *Batch) OwnTable(t *Table, stamp uint64) { b.table(t, stamp) }

// DelTable deletes a table and all in it. The table must exist.
func (b *Batch) DelTable(t *Table) {
	b.message(unix.NFT_MSG_DELTABLE, 0, t.Family, func(w *wire) { w.string(unix.NFTA_TABLE_NAME, t.Name) })
}

// AddChain adds a chain with its rules to a table.
func (b *Batch) AddChain(t *Table, c *Chain) {
	b.chain(t, c)
	b.rules(t, c)
}

// DelChain deletes a chain and its rules. Nothing may lead to it.
func (b *Batch) DelChain(t *Table, name string) {
	b.delRules(t, name)
	b.message(unix.NFT_MSG_DELCHAIN, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_CHAIN_TABLE, t.Name)
		w.string(unix.NFTA_CHAIN_NAME, name)
	})
}

// SetRules gives a chain that exists other rules.
func (b *Batch) SetRules(t *Table, c *Chain) {
	b.delRules(t, c.Name)
	b.rules(t, c)
}

func (b *Batch) delRules(t *Table, chain string) {
	b.message(unix.NFT_MSG_DELRULE, 0, t.Family, func(w *wire) {
		w.string(unix.NFTA_RULE_TABLE, t.Name)
		w.string(unix.NFTA_RULE_CHAIN, chain)
	})
}

func (b *Batch) chain(t *Table, c *Chain) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, t.Family, func(w *wire) {
		w.string(unix.NFTA_CHAIN_TABLE, t.Name)
		w.string(unix.NFTA_CHAIN_NAME, c.Name)
		if h := c.Hook; h != nil {
			at := w.open(unix.NFTA_CHAIN_HOOK)
			w.uint32(unix.NFTA_HOOK_HOOKNUM, uint32(h.Point))
			w.uint32(unix.NFTA_HOOK_PRIORITY, uint32(h.Priority))
			w.close(at)
			w.string(unix.NFTA_CHAIN_TYPE, h.Type)
		}
	})
}

func (b *Batch) rules(t *Table, c *Chain) {
	for i := range c.Rules {
		r := &c.Rules[i]
		b.message(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, t.Family, func(w *wire) {
			w.string(unix.NFTA_RULE_TABLE, t.Name)
			w.string(unix.NFTA_RULE_CHAIN, c.Name)
			at := w.open(unix.NFTA_RULE_EXPRESSIONS)
			if err := b.low.lower(w, t.Family, r); err != nil && b.err == nil {
				b.err = err
			}
			w.close(at)
			at = w.openBytes(unix.NFTA_RULE_USERDATA)
			w.b = udataString(w.b, udRuleComment, r.Comment)
			w.b = append(w.b, udStamp, 8)
			w.b = binary.BigEndian.AppendUint64(w.b, r.stamp())
			w.closeBytes(at)
		})
	}
}

func (b *Batch) set(t *Table, s *Set) {
	b.setID++
	key, data := concatTypes(s.Key), concatTypes(s.Data)
	flags := uint32(0)
	if s.Map() {
		flags |= unix.NFT_SET_MAP
	}
	if s.Interval {
		flags |= unix.NFT_SET_INTERVAL
		if len(key) > 1 {
			flags |= setConcat
		}
	}
	if s.Dynamic {
		flags |= unix.NFT_SET_EVAL | unix.NFT_SET_TIMEOUT
	}
	if s.Counted {
		flags |= unix.NFT_SET_EVAL
	}
	b.message(unix.NFT_MSG_NEWSET, unix.NLM_F_CREATE, t.Family, func(w *wire) {
		w.string(unix.NFTA_SET_TABLE, t.Name)
		w.string(unix.NFTA_SET_NAME, s.Name)
		w.uint32(unix.NFTA_SET_FLAGS, flags)
		w.uint32(unix.NFTA_SET_KEY_TYPE, magic(key))
		w.uint32(unix.NFTA_SET_KEY_LEN, uint32(size(key)))
		if s.Verdict {
			w.uint32(unix.NFTA_SET_DATA_TYPE, Verdicts.magic)
			w.uint32(unix.NFTA_SET_DATA_LEN, uint32(Verdicts.size))
		} else if s.Map() {
			w.uint32(unix.NFTA_SET_DATA_TYPE, magic(data))
			w.uint32(unix.NFTA_SET_DATA_LEN, uint32(size(s.dataTypes())))
		}
		w.uint32(unix.NFTA_SET_ID, b.setID)
		if flags&setConcat != 0 || s.Size > 0 {
			desc := w.open(unix.NFTA_SET_DESC)
			if s.Size > 0 {
				w.uint32(unix.NFTA_SET_DESC_SIZE, s.Size)
			}
			if flags&setConcat != 0 {
				concat := w.open(setDescConcat)
				for _, t := range key {
					field := w.open(unix.NFTA_LIST_ELEM)
					w.uint32(setFieldLen, uint32(t.size))
					w.close(field)
				}
				w.close(concat)
			}
			w.close(desc)
		}
		w.bytes(unix.NFTA_SET_USERDATA, s.userdata())
	})
}

// From linux/netfilter/nf_tables.h; x/sys/unix lacks them.
const (
	setConcat     = 0x80 // NFT_SET_CONCAT
	setDescConcat = 2    // NFTA_SET_DESC_CONCAT
	setFieldLen   = 1    // NFTA_SET_FIELD_LEN
	elemKeyEnd    = 10   // NFTA_SET_ELEM_KEY_END
	elemExpr      = 7    // NFTA_SET_ELEM_EXPR
)

// magic is nft's number for a type: six bits for each part.
func magic(types []Type) uint32 {
	var m uint32
	for _, t := range types {
		m = m<<6 | t.magic
	}
	return m
}

// AddElements adds elements to a set. An element that exists with the same
// value is no error; to change a value, delete the element first in the same
// batch.
func (b *Batch) AddElements(t *Table, s *Set, list []Element) {
	b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, t, s, list)
}

// DelElements deletes elements, which must exist. Only keys count.
func (b *Batch) DelElements(t *Table, s *Set, list []Element) {
	b.elements(unix.NFT_MSG_DELSETELEM, 0, t, s, list)
}

func (b *Batch) elements(typ, flags uint16, t *Table, s *Set, list []Element) {
	adding := typ == unix.NFT_MSG_NEWSETELEM
	for len(list) > 0 {
		b.message(typ, flags, t.Family, func(w *wire) {
			w.string(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
			w.string(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
			at := w.open(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
			for len(list) > 0 && len(w.b)-at < maxAttr-maxElement {
				element(w, &list[0], adding)
				list = list[1:]
			}
			w.close(at)
		})
	}
}

// maxElement bounds the bytes of one element: two keys of 64 bytes, a value,
// 256 bytes of userdata, and headers.
const maxElement = 768

func element(w *wire, e *Element, adding bool) {
	at := w.open(unix.NFTA_LIST_ELEM)
	k := w.open(unix.NFTA_SET_ELEM_KEY)
	w.bytes(unix.NFTA_DATA_VALUE, e.Key)
	w.close(k)
	if e.KeyEnd != nil {
		k := w.open(elemKeyEnd)
		w.bytes(unix.NFTA_DATA_VALUE, e.KeyEnd)
		w.close(k)
	}
	if e.End {
		w.uint32(unix.NFTA_SET_ELEM_FLAGS, unix.NFT_SET_ELEM_INTERVAL_END)
	}
	if adding {
		elementData(w, e)
	}
	w.close(at)
}

func elementData(w *wire, e *Element) {
	if e.Verdict != nil {
		d := w.open(unix.NFTA_SET_ELEM_DATA)
		w.verdict(*e.Verdict)
		w.close(d)
	} else if e.Data != nil {
		d := w.open(unix.NFTA_SET_ELEM_DATA)
		w.bytes(unix.NFTA_DATA_VALUE, e.Data)
		w.close(d)
	}
	if e.Counter {
		x := w.open(elemExpr)
		w.string(unix.NFTA_EXPR_NAME, "counter")
		w.close(w.open(unix.NFTA_EXPR_DATA))
		w.close(x)
	}
	if e.Comment != "" || e.Extra != nil {
		user := udataString(nil, udElemComment, e.Comment)
		if e.Extra != nil {
			user = udata(user, udExtra, e.Extra)
		}
		w.bytes(unix.NFTA_SET_ELEM_USERDATA, user)
	}
}
