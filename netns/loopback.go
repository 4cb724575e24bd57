package netns

// LoopbackUp brings the namespace's loopback device up, which the kernel makes
// down: processes in it then reach each other at 127.0.0.1 and ::1. It needs
// CAP_NET_ADMIN over the namespace. When it is up already, nothing changes.
func (ns *NS) LoopbackUp() error {
	if err := ns.do("bring up loopback", loopbackUp); err != nil {
		return opError("bring up loopback", ns.object(), err)
	}
	return nil
}
