package netns

import "os/exec"

func (ns *NS) start(cmd *exec.Cmd) error { return ns.do("start", cmd.Start) }
