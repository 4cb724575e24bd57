package plugin

import (
	"context"
	"errors"
	"io/fs"
	"runtime"
	"strings"
	"sync"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/podplumb/podplumb/examples/cni/ipam"
	"github.com/podplumb/podplumb/examples/cni/links"
	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/examples/cni/stack"
)

// gc removes the network's attachments that are not valid, all in one pass, and then what no record knows of.
func (p *plugin) gc(ctx context.Context, args *skel.CmdArgs) (err error) {
	r, err := newRequest(args)
	if err != nil {
		return err
	}
	valid := map[string]bool{}
	owners := map[uint64]bool{}
	for _, v := range r.net.Valid {
		valid[record.FileName(v.ContainerID, v.IfName)] = true
		owners[ipam.Owner{ContainerID: v.ContainerID, IfName: v.IfName}.ID()] = true
	}
	listed, err := r.store.List(r.key.Network)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(runtime.NumCPU()) // other commands have work for one processor
	var files []*record.File
	defer func() { err = errors.Join(err, eachAtOnce(files, (*record.File).Close)) }()
	for _, name := range listed {
		if valid[name] {
			continue
		}
		f, err := r.store.LockFile(ctx, r.key.Network, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		files = append(files, f)
	}
	// Asked before, as the list would have to wait for the removal.
	stray, unused, err := r.strayLinks(ctx, valid)
	if err != nil {
		return err
	}
	var gone []*record.Attachment
	freed := make(chan error, 1)
	go func() {
		stack.Grow()
		freed <- func() (err error) {
			if gone, err = read(files); err != nil {
				return err
			}
			return p.freePorts(ctx, r.store, gone, func() error { return sweepTable(ctx, r.store, gone) })
		}()
	}()
	// Nearly all links tell by themselves whose they are, so the kernel removes them while the records are read.
	err = links.RemoveListed(owner, stray...)
	p.passed("sweep")
	if err = errors.Join(err, <-freed); err != nil {
		return err
	}
	if err := p.unlink(ctx, gone, names(stray)); err != nil {
		return err
	}
	if err := p.release(ctx, r.store, gone); err != nil {
		return err
	}
	if err := eachAtOnce(files, (*record.File).Remove); err != nil {
		return err
	}
	p.passed("unrecord")
	return errors.Join(
		r.sweepLeases(ctx, owners),
		links.RemoveUnused(ctx, unused...),
		r.store.SweepPorts(ctx),
	)
}

// atOnce is how many files are dealt with at a time. What waits is the disk, for its journal, at the end of each.
const atOnce = 8

// eachAtOnce calls do with each file, with several at the same time.
func eachAtOnce(files []*record.File, do func(*record.File) error) error {
	errs := make([]error, len(files))
	var running sync.WaitGroup
	for first := range min(atOnce, len(files)) {
		running.Go(func() {
			for i := first; i < len(files); i += atOnce {
				errs[i] = do(files[i])
			}
		})
	}
	running.Wait()
	return errors.Join(errs...)
}

// read reads records that were only locked. One that has no entry is of an ADD that had not begun.
func read(files []*record.File) (gone []*record.Attachment, err error) {
	for _, f := range files {
		if err := f.Read(); err != nil {
			return nil, err
		}
		if f.Have != nil {
			gone = append(gone, f.Have)
		}
	}
	return gone, nil
}

// sweepLeases gives back addresses of the network whose owner is not valid.
func (r *request) sweepLeases(ctx context.Context, valid map[uint64]bool) error {
	if r.net.IPAM == nil || r.net.IPAM.Type != "host-local" {
		return nil
	}
	return withLeases(ctx, r.store, r.key.Network, func(s *ipam.Store) error {
		_, err := s.Retain(func(owner uint64) bool { return valid[owner] })
		return err
	})
}

// halfMade tells the name of a bridge whose maker died before it could give it the right one.
func halfMade(name string) bool {
	random, ok := strings.CutPrefix(name, "br")
	return ok && len(random) == 12 && strings.Trim(random, "0123456789abcdef") == ""
}

// strayLinks are links of the network that no valid attachment has, and bridges that were never finished.
func (r *request) strayLinks(ctx context.Context, valid map[string]bool) (pairs []links.Link, unused []string, err error) {
	all, err := links.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, l := range all {
		k, ok := taggedKey(l.Alias)
		own := l.Kind == "veth" && l.Name == linkName(k) || l.Kind == "ifb" && l.Name == deviceName(k)
		if ok && own && k.Network == r.key.Network && !valid[record.FileName(k.ContainerID, k.IfName)] {
			pairs = append(pairs, l)
		}
		if l.Kind == "bridge" && l.Alias == "" && !l.Up && l.Ports == 0 && halfMade(l.Name) {
			unused = append(unused, l.Name)
		}
	}
	return pairs, unused, nil
}

func names(list []links.Link) map[string]bool {
	out := make(map[string]bool, len(list))
	for _, l := range list {
		out[l.Name] = true
	}
	return out
}
