// Package rtnl is the typed rtnetlink of podplumb: links, addresses, routes, neighbours, bridge FDB entries and bridge VLANs.
//
// It is the only package that imports vishvananda/netlink, whose nl package it uses to encode attributes. What it adds: one lasting
// socket per [Conn], opened inside a given network namespace; a deadline on every call; dumps that were interrupted by a change are
// repeated until they are consistent; the kernel's extended acknowledgement in the error text; errors that errors.Is finds as
// fs.ErrNotExist, fs.ErrExist, fs.ErrPermission or errors.ErrUnsupported; netip addresses; events with a typed overflow error.
//
// It owns nothing in the kernel: every call does one thing, at once. All but this file is Linux only.
package rtnl
