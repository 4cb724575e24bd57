// Package bench measures the cni example against the stock plugins that it stands in for: the same configurations, through libcni, in turns.
package bench
