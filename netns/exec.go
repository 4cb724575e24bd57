package netns

import "os/exec"

// Start starts cmd inside the namespace; use cmd.Wait as ever. Only the network
// namespace differs from the caller: /sys still shows the caller's links.
func (ns *NS) Start(cmd *exec.Cmd) error {
	if err := ns.start(cmd); err != nil {
		return opError("start", cmd.Path, err)
	}
	return nil
}
