// Package nft is a typed model of nftables: tables, chains, rules, named sets
// and maps.
//
// The model is plain data and prints as text on every system. On Linux, Conn
// writes it to the kernel in one compare-and-swap transaction and reads the
// elements of sets and maps back. Rules are lowered to the expressions of
// google/nftables; tables, sets and elements are encoded here, because what
// makes them readable for nft (typeof, byte order and comment userdata), a
// deadline on every answer and the noticing of interrupted dumps cannot be
// had otherwise.
//
// Rules are not read back: a table carries a stamp of its text, and each rule
// one of its own, which is enough to tell whether they are those of a model.
//
// The package owns nothing in the kernel by itself. It needs CAP_NET_ADMIN in
// the user namespace of the network namespace, and Linux 5.10 or later. The
// tests run on 6.1 too, which has no owners of tables (6.9), cannot change the
// timeout of an element that is there (it says yes and does nothing), and may
// list elements wrongly while their set grows (before 6.16): lists are compared.
package nft
