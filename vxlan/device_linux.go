package vxlan

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/internal/plan"
	"github.com/podplumb/podplumb/internal/rtnl"
)

// devices brings the devices of the plan to what is wanted, all but those that merely go.
func (w *writer) devices(ctx context.Context) error {
	for _, c := range w.changes {
		if c.Key.kind != kindDevice || c.Want == nil {
			continue
		}
		err := w.device(ctx, c)
		if err != nil {
			return &OpError{Op: "apply", Object: object(c.Key), Err: err}
		}
	}
	return nil
}

func (w *writer) device(ctx context.Context, c plan.Change[key, entry]) error {
	d := c.Want.device
	if d.MTU == 0 || !d.Source.IsValid() || d.MAC.IsZero() {
		return ErrUnresolved
	}
	switch {
	case c.Have == nil:
		return w.create(ctx, d)
	case recreates(c):
		return w.recreate(ctx, d)
	}
	return w.modify(ctx, c.Have, d)
}

// create makes a device that is not there. Another of the client's own that goes or is made again in the same plan may hold its VNI; that one has
// to go first then.
func (w *writer) create(ctx context.Context, d *Device) error {
	for _, name := range w.rivals(d) {
		if name == d.Name || w.again[name] {
			continue // it has been replaced already
		}
		if err := missingIsFine(w.conn.DelLink(ctx, w.index[name])); err != nil {
			return err
		}
		delete(w.index, name)
	}
	for i := range w.links {
		if l := &w.links[i]; halfMade(l, d) {
			if err := missingIsFine(w.conn.DelLink(ctx, l.Index)); err != nil {
				return err
			}
		}
	}
	if _, err := w.add(ctx, d, d.Name); err != nil {
		return taken(err)
	}
	return w.up(ctx, d)
}

// rivals names the client's devices that hold the VNI of d and are to go or to be made again, d's predecessor among them.
func (w *writer) rivals(d *Device) []string {
	var out []string
	for _, c := range w.changes {
		if c.Key.kind != kindDevice || c.Have == nil || c.Want != nil && !recreates(c) {
			continue
		}
		if _, there := w.index[c.Key.dev]; there && c.Have.device.VNI == d.VNI && c.Have.device.port() == d.port() {
			out = append(out, c.Key.dev)
		}
	}
	return out
}

// add makes a link for the device, down, under the given name, and marks it as the client's.
func (w *writer) add(ctx context.Context, d *Device, name string) (int, error) {
	a, err := w.attrs(d)
	if err != nil {
		return 0, err
	}
	a.Name = name
	if err := w.conn.AddLink(ctx, "vxlan", a); err != nil {
		return 0, explain(err)
	}
	l, err := w.conn.LinkByName(ctx, name)
	if err != nil {
		return 0, err
	}
	w.index[name] = l.Index
	return l.Index, w.conn.SetLink(ctx, l.Index, rtnl.LinkAttrs{Alias: &w.cfg.Alias})
}

// explain says what to do about a kernel without VXLAN.
func explain(err error) error {
	var e *rtnl.Error
	if errors.As(err, &e) && e.Errno == unix.EOPNOTSUPP && (e.Message == "" || strings.Contains(e.Message, "device type")) {
		return fmt.Errorf("this kernel has no VXLAN (modprobe vxlan): %w", err)
	}
	return err
}

// attrs are the attributes of a new link for the device.
func (w *writer) attrs(d *Device) (rtnl.LinkAttrs, error) {
	v, err := w.changeable(d)
	if err != nil {
		return rtnl.LinkAttrs{}, err
	}
	port, sums := d.port(), !d.ZeroChecksum
	v.Port, v.UDPCsum, v.GBP = &port, &sums, d.GBP
	v.Csum6TxNo, v.Csum6RxNo = &d.ZeroChecksum6Tx, &d.ZeroChecksum6Rx
	if d.SourcePorts != (PortRange{}) {
		v.PortLow, v.PortHigh = &d.SourcePorts.Low, &d.SourcePorts.High
	}
	if *v.Link == 0 {
		v.Link = nil
	}
	a := rtnl.LinkAttrs{MTU: d.MTU, MAC: rtnl.MAC(d.MAC), VXLAN: v}
	a.Master, err = w.master(d)
	if a.Master != nil && *a.Master == 0 {
		a.Master = nil
	}
	return a, err
}

// changeable are the VXLAN settings that the kernel can change on a device that is there.
func (w *writer) changeable(d *Device) (*rtnl.VXLANAttrs, error) {
	var lower uint32
	if d.Underlay != "" {
		index, ok := w.index[d.Underlay]
		if !ok {
			return nil, fmt.Errorf("underlay %s: %w", d.Underlay, fs.ErrNotExist)
		}
		lower = uint32(index)
	}
	return &rtnl.VXLANAttrs{ID: d.VNI, Local: d.Source, Link: &lower, Learning: &d.Learning, TTL: &d.TTL, TOS: &d.TOS}, nil
}

// master returns the index of the device's bridge, 0 for none.
func (w *writer) master(d *Device) (*int, error) {
	if d.Bridge == "" {
		return new(int), nil
	}
	index, ok := w.index[d.Bridge]
	if !ok {
		return nil, fmt.Errorf("bridge %s: %w", d.Bridge, fs.ErrNotExist)
	}
	return &index, nil
}

// up brings the device up and sees that it came up as wanted: udev and its like may give it a MAC address of their own taste in between.
func (w *writer) up(ctx context.Context, d *Device) error {
	index, yes := w.index[d.Name], true
	if err := w.conn.SetLink(ctx, index, rtnl.LinkAttrs{Up: &yes}); err != nil {
		return err
	}
	for try := 0; ; try++ {
		l, err := w.conn.LinkByIndex(ctx, index)
		if err != nil {
			return err
		}
		if MAC(l.MAC) == d.MAC && l.MTU == d.MTU && l.Up() {
			return nil
		}
		if try == 3 {
			return fmt.Errorf("someone keeps changing it: mac %s mtu %d, wanted %s and %d", l.MAC, l.MTU, d.MAC, d.MTU)
		}
		fix := rtnl.LinkAttrs{Up: &yes, MTU: d.MTU}
		if MAC(l.MAC) != d.MAC {
			fix.MAC = rtnl.MAC(d.MAC)
			w.flushed[d.Name] = true
		}
		if err := w.conn.SetLink(ctx, index, fix); err != nil {
			return err
		}
	}
}

// modify changes in place what the kernel can change in place.
func (w *writer) modify(ctx context.Context, have *entry, d *Device) error {
	index := w.index[d.Name]
	var a, settings rtnl.LinkAttrs
	for _, c := range have.device.changes(d) {
		switch c.name {
		case "mtu":
			a.MTU = d.MTU
		case "mac":
			a.MAC = rtnl.MAC(d.MAC)
			w.flushed[d.Name] = true
		case "bridge":
			master, err := w.master(d)
			if err != nil {
				return err
			}
			a.Master = master
		default:
			w.moved[d.Name] = w.moved[d.Name] || c.name == "source"
			v, err := w.changeable(d)
			if err != nil {
				return err
			}
			// The kernel takes no MTU together with these, and lowers the MTU itself when a new underlay asks for it: up sees to that.
			settings.VXLAN = v
		}
	}
	if settings.VXLAN != nil {
		if err := w.conn.SetLink(ctx, index, settings); err != nil {
			return err
		}
	}
	if err := w.conn.SetLink(ctx, index, a); err != nil {
		return err
	}
	return w.up(ctx, d)
}

// recreate replaces a device by one with settings that the kernel cannot change. If the kernel allows both at a time, the new one is made and its
// FDB filled while the old one still works, and the old one is deleted after the routes have moved; traffic then only waits for neighbours and
// routes. If not, the old one has to go first.
func (w *writer) recreate(ctx context.Context, d *Device) error {
	before, ok := w.index[d.Name]
	if !ok {
		w.again[d.Name] = true
		return w.create(ctx, d)
	}
	name := fmt.Sprintf("vxlan~%d", before)
	after, err := w.add(ctx, d, name)
	if errors.Is(err, fs.ErrExist) {
		if len(w.rivals(d)) == 0 {
			return taken(err)
		}
		if err := missingIsFine(w.conn.DelLink(ctx, before)); err != nil {
			return err
		}
		w.again[d.Name] = true
		return w.create(ctx, d)
	}
	if err != nil {
		return err
	}
	if err := w.fill(ctx, d.Name, after); err != nil {
		return err
	}
	no := false
	if err := w.conn.SetLink(ctx, before, rtnl.LinkAttrs{Up: &no}); err != nil {
		return err
	}
	if err := w.conn.SetLink(ctx, before, rtnl.LinkAttrs{Name: fmt.Sprintf("vxlan-%d", before)}); err != nil {
		return err
	}
	if err := w.conn.SetLink(ctx, after, rtnl.LinkAttrs{Name: d.Name}); err != nil {
		return err
	}
	delete(w.index, name)
	w.index[d.Name] = after
	w.again[d.Name], w.staged[d.Name] = true, true
	w.old = append(w.old, before)
	return w.up(ctx, d)
}

// fill writes the FDB and flood entries of the device to the link with that index.
func (w *writer) fill(ctx context.Context, name string, index int) error {
	var b rtnl.Batch
	for i := range w.want {
		e := &w.want[i]
		switch {
		case e.dev != name:
		case e.kind == kindFDB:
			b.ReplaceNeigh(w.neigh(e, index))
		case e.kind == kindFlood:
			b.AppendNeigh(w.neigh(e, index))
		}
	}
	var refusal error
	err := w.conn.Send(ctx, &b, func(_ int, err error) { refusal = err })
	return errors.Join(err, refusal)
}
