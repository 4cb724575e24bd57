// Package agent is the node example but for its main function, so that others can have it in their own programs.
//
// It owns the VXLAN device whose alias is "podplumb:node", the nftables table podplumb-node, and the CNI configuration that it writes, and turns
// forwarding on. It needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
package agent
