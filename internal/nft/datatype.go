package nft

// A Type is a data type of nft: what a register, key or value holds.
type Type struct {
	name  string
	magic uint32 // nft's number for the type, see its include/datatype.h
	size  int    // bytes
	host  bool   // host byte order
}

// The types, named as nft names them.
var (
	Addr4     = Type{"ipv4_addr", 7, 4, false}
	Addr6     = Type{"ipv6_addr", 8, 16, false}
	InetProto = Type{"inet_proto", 12, 1, false}
	Port      = Type{"inet_service", 13, 2, false}
	Integer   = Type{"integer", 4, 4, true}
	MarkType  = Type{"mark", 19, 4, true}
	CTState   = Type{"ct_state", 26, 4, true}
	CTDir     = Type{"ct_dir", 27, 1, true}
	CTStatus  = Type{"ct_status", 28, 4, true}
	LinkType  = Type{"arphrd", 21, 2, true}
	UserID    = Type{"uid", 24, 4, true}
	GroupID   = Type{"gid", 25, 4, true}
	FibType   = Type{"fib_addrtype", 38, 4, true}
	NFProto   = Type{"nf_proto", 2, 1, true}
	IfName    = Type{"ifname", 41, 16, true}
	Verdicts  = Type{"verdict", 0xffffff00, 16, false}
)

func (t Type) String() string { return t.name }

// Size is the number of bytes of a value.
func (t Type) Size() int { return t.size }

// padded is the room that a value takes in registers and concatenations.
func (t Type) padded() int { return (t.size + 3) &^ 3 }
