// Package ipvs measures package ipvs, in one run, against the other ways to program virtual servers: github.com/moby/ipvs, github.com/cloudflare/ipvs,
// ipvsadm -R, one round trip of mdlayher/netlink for each request, and the same requests encoded beforehand and sent at once. It lies in this module so that the
// library requires none of them. `make bench-vm` runs it in the guest.
package ipvs
