package plugin

import (
	"context"
	"errors"
	"io/fs"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/podplumb/podplumb/examples/cni/record"
)

func (p *plugin) del(ctx context.Context, args *skel.CmdArgs) error {
	r, err := newRequest(args)
	if err != nil {
		return err
	}
	file, err := r.store.Open(ctx, r.key)
	if errors.Is(err, fs.ErrNotExist) {
		return p.takeDown(ctx, r.store, r.unrecorded())
	}
	if err != nil {
		return err
	}
	defer file.Close()
	a := file.Have
	if a == nil {
		a = r.unrecorded()
	}
	if err := p.takeDown(ctx, r.store, a); err != nil {
		return err
	}
	return file.Remove()
}

// unrecorded is what there may be of an attachment that there is no record of: its addresses, if host-local handed them out or the
// record was lost, and its link, if the configuration is one that makes links.
func (r *request) unrecorded() *record.Attachment {
	a := &record.Attachment{Key: r.key, HostLocal: r.hostLocalDir()}
	if r.net.IPAM != nil {
		a.Link, a.Pool = linkName(r.key), r.net.IPAM.Type == "host-local"
	}
	return a
}
