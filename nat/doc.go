// Package nat keeps one nftables table that masquerades networks and
// forwards addresses and ports to weighted targets.
package nat
