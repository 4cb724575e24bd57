// Package links does to network devices what the plugin needs and the veth package leaves out: removing what a killed process left
// unmarked, traffic shaping, device flags, and policy routing.
package links
