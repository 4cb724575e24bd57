//go:build !linux

package netns

import (
	"errors"
	"os"
	"os/exec"
)

const threadNetNS = ""

func unshareNet() (*os.File, ID, error)      { return nil, ID{}, errors.ErrUnsupported }
func createNamed(string) (*NS, error)        { return nil, errors.ErrUnsupported }
func openPath(string) (*NS, error)           { return nil, errors.ErrUnsupported }
func openNamed(string) (*NS, error)          { return nil, errors.ErrUnsupported }
func listNamed() ([]string, error)           { return nil, errors.ErrUnsupported }
func removeNamed(string) error               { return errors.ErrUnsupported }
func unpin(string) error                     { return errors.ErrUnsupported }
func readSysctl(string) (string, error)      { return "", errors.ErrUnsupported }
func writeSysctl(string, string) error       { return errors.ErrUnsupported }
func (ns *NS) pin(string) error              { return errors.ErrUnsupported }
func (ns *NS) start(*exec.Cmd) error         { return errors.ErrUnsupported }
func (ns *NS) do(string, func() error) error { return errors.ErrUnsupported }
