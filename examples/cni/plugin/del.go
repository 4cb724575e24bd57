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
// record was lost.
func (r *request) unrecorded() *record.Attachment {
	pool := r.net.IPAM != nil && r.net.IPAM.Type == "host-local"
	return &record.Attachment{Key: r.key, Link: linkName(r.key), Pool: pool, HostLocal: r.hostLocalDir()}
}
