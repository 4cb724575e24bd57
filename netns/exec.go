package netns

import (
	"fmt"
	"io/fs"
	"os/exec"
	"path/filepath"
)

// Start starts cmd inside the namespace; wait for it with cmd.Wait. Nothing but the
// network namespace differs from a plain cmd.Start: /sys still shows the
// caller's links, /etc/resolv.conf is the caller's. [NS.StartMounted] changes that too.
//
// With SysProcAttr.Pdeathsig the thread that starts the process is kept until it
// ends: the kernel sends the signal when that thread dies, not the caller's process
// (prctl(2), PR_SET_PDEATHSIG). A SysProcAttr that asks for another network namespace
// gives an error that Is [fs.ErrInvalid].
func (ns *NS) Start(cmd *exec.Cmd) error {
	if err := ns.begin(cmd, false); err != nil {
		return opError("start", commandName(cmd), err)
	}
	return nil
}

// StartMounted starts cmd as `ip netns exec` does: also in a mount namespace of its
// own, in which /sys shows the links of the network namespace, and in which every file
// of /etc/netns/NAME, such as resolv.conf, lies over its namesake in /etc, if there is
// one (when the handle has a Name). Mounts that the caller makes later still appear
// there.
func (ns *NS) StartMounted(cmd *exec.Cmd) error {
	if err := ns.begin(cmd, true); err != nil {
		return opError("start", commandName(cmd), err)
	}
	return nil
}

// begin checks what package exec cannot.
func (ns *NS) begin(cmd *exec.Cmd, mounted bool) error {
	if err := ns.alive(); err != nil {
		return err
	}
	if cmd == nil {
		return fmt.Errorf("the command is nil: %w", fs.ErrInvalid)
	}
	return ns.start(cmd, mounted)
}

func commandName(cmd *exec.Cmd) string {
	if cmd == nil {
		return "<nil>"
	}
	return filepath.Base(cmd.Path)
}
