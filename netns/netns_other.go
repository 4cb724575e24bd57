//go:build !linux

package netns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
)

const (
	supported   = false
	threadNetNS = ""
)

func currentFile() (*os.File, ID, error) { return nil, ID{}, errors.ErrUnsupported }

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
func (ns *NS) start(*exec.Cmd, bool) error   { return errors.ErrUnsupported }
func (ns *NS) do(string, func() error) error { return errors.ErrUnsupported }

func linkIndex(string) (int, error)                       { return 0, errors.ErrUnsupported }
func (ns *NS) sources([]netip.Addr) ([]netip.Addr, error) { return nil, errors.ErrUnsupported }
func (d *Dialer) dialOne(context.Context, string, string) (net.Conn, error) {
	return nil, errors.ErrUnsupported
}

func (ns *NS) nsid(context.Context, *NS) (int, error)            { return 0, errors.ErrUnsupported }
func (ns *NS) assignNSID(context.Context, *NS, int) (int, error) { return 0, errors.ErrUnsupported }

func listen[S any](ctx context.Context, network, literal string, open func(*net.ListenConfig, context.Context, string, string) (S, error)) (S, error) {
	return open(new(net.ListenConfig), ctx, network, literal)
}
