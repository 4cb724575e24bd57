package netns

import "context"

// NSID returns the number by which this namespace knows peer: the one in
// IFLA_LINK_NETNSID of a veth pair that spans both, and in `ip netns list-id`. When the
// kernel has given it none yet, the error Is [fs.ErrNotExist]. ctx bounds the
// netlink call (RTM_GETNSID of linux/rtnetlink.h).
func (ns *NS) NSID(ctx context.Context, peer *NS) (int, error) {
	id, err := ns.nsid(ctx, peer)
	if err != nil {
		return 0, opError("read nsid", peer.object(), err)
	}
	return id, nil
}

// AssignNSID gives peer the number by which this namespace knows it, and returns it;
// with a negative id the kernel chooses. The number stays as long as both namespaces
// live. If peer has one, or another namespace has this one, the error Is [fs.ErrExist].
func (ns *NS) AssignNSID(ctx context.Context, peer *NS, id int) (int, error) {
	id, err := ns.assignNSID(ctx, peer, id)
	if err != nil {
		return 0, opError(opNSID, peer.object(), err)
	}
	return id, nil
}
