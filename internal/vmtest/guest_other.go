//go:build !linux

package vmtest

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }

func runInit() {}

func runModprobe([]string) int { return 1 }
