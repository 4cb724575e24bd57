//go:build !linux

package upstream

func (c *conn) alive() bool { return true }
