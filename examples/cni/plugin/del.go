package plugin

import (
	"cmp"
	"context"
	"errors"
	"io/fs"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/podplumb/podplumb/examples/cni/conf"
	"github.com/podplumb/podplumb/examples/cni/jsonlite"
	"github.com/podplumb/podplumb/examples/cni/record"
)

func (p *plugin) del(ctx context.Context, args *skel.CmdArgs) error {
	r, fault := newRequest(args)
	if fault != nil {
		// A container must go also when its network's configuration has been broken meanwhile: its record is enough.
		if r = barest(args); r == nil {
			return fault
		}
	}
	file, err := r.store.Open(ctx, r.key)
	if errors.Is(err, fs.ErrNotExist) {
		if fault != nil {
			return fault
		}
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

// barest is a request with what it takes to find a record, or nil.
func barest(args *skel.CmdArgs) *request {
	n := &conf.Net{}
	var named struct{ Name, DataDir string }
	if err := jsonlite.Unmarshal(args.StdinData, &named); err != nil || named.Name == "" {
		return nil
	}
	n.Name, n.DataDir = named.Name, cmp.Or(named.DataDir, DefaultDataDir)
	return &request{
		key:   record.Key{Network: n.Name, ContainerID: args.ContainerID, IfName: args.IfName},
		netns: args.Netns, net: n, store: record.Store{Dir: n.DataDir},
	}
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
