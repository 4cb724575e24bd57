package nat

import "fmt"

// capture names the faults of s.Capture and s.Redirects, and where they meet.
func (f *faults) capture(s State) {
	c := s.Capture
	proxy := map[listen]string{}
	for _, d := range []struct {
		name  string
		port  uint16
		proto Proto
	}{
		{"outbound", c.Outbound, TCP}, {"inbound", c.Inbound, TCP}, {"dns", c.DNS, TCP}, {"dns", c.DNS, UDP},
	} {
		if d.port == 0 {
			continue
		}
		at := listen{d.port, d.proto}
		if first, ok := proxy[at]; ok {
			f.add("capture."+d.name, "%d is the port of %s as well", d.port, first)
		} else {
			proxy[at] = d.name
		}
	}
	x := c.Except
	if (c.Outbound != 0 || c.DNS != 0) && len(x.Users)+len(x.Groups)+len(x.Marks) == 0 {
		f.add("capture.except", "no user, group or mark: the proxy's own connections would come back to it")
	}
	if c.AllPorts && c.Inbound == 0 {
		f.add("capture.allPorts", "no inbound port to lead them to")
	}
	if c.Closed && c.Inbound == 0 {
		f.add("capture.closed", "no inbound port for those that are open")
	}
	if c.Closed && c.AllPorts {
		f.add("capture.closed", "all ports are captured")
	}
	for n, list := range [][]uint16{c.Ports, c.Ports4, c.Ports6} {
		for i, p := range list {
			f.captured(fmt.Sprintf("capture.%s[%d]", []string{"ports", "ports4", "ports6"}[n], i), p)
		}
	}
	for i, m := range x.Marks {
		if m.Mask != 0 && m.Value&^m.Mask != 0 {
			f.add(fmt.Sprintf("capture.except.marks[%d]", i), "0x%x has bits outside of the mask 0x%x", m.Value, m.Mask)
		}
	}
	if len(x.Marks) > maxMarks {
		f.add("capture.except.marks", "%d marks, at most %d", len(x.Marks), maxMarks)
	}
	for i, p := range x.From {
		f.prefix(fmt.Sprintf("capture.except.from[%d]", i), p)
	}
	for i, p := range x.To {
		f.prefix(fmt.Sprintf("capture.except.to[%d]", i), p)
	}
	for i, p := range x.Inbound {
		f.ports(fmt.Sprintf("capture.except.inbound[%d]", i), p)
	}
	for i, p := range x.Outbound {
		f.ports(fmt.Sprintf("capture.except.outbound[%d]", i), p)
	}
	f.redirects(s, proxy)
}

// maxMarks bounds Except.Marks, each of which is a rule.
const maxMarks = 64

func (f *faults) captured(at string, port uint16) {
	if port == 0 {
		f.add(at, "zero")
	}
}

// change names the faults of the ports of a Change.
func (f *faults) change(c Change) {
	seen := map[uint16]string{}
	for n, list := range [][]uint16{c.Capture, c.Release} {
		for i, p := range list {
			at := fmt.Sprintf("%s[%d]", []string{"capture", "release"}[n], i)
			f.captured(at, p)
			if first, ok := seen[p]; ok {
				f.add(at, "%d is %s already", p, first)
			}
			seen[p] = at
		}
	}
}

func (f *faults) redirects(s State, proxy map[listen]string) {
	nodes := map[listen]int{}
	for i := range s.Forwards {
		if w := &s.Forwards[i]; w.Addr.IsValid() && w.Addr.IsUnspecified() {
			at := listen{w.Port, w.Proto}
			nodes[at] = i
			if d, ok := proxy[at]; ok {
				f.add(fmt.Sprintf("forwards[%d].port", i), "%d is capture.%s, which nobody reaches directly", w.Port, d)
			}
		}
	}
	seen := map[listen]int{}
	for i := range s.Redirects {
		r := &s.Redirects[i]
		at := fmt.Sprintf("redirects[%d]", i)
		f.captured(at+".port", r.Port)
		f.captured(at+".to", r.To)
		f.proto(at+".proto", r.Proto)
		f.name(at+".name", r.Name)
		if r.Port == r.To && r.Port != 0 {
			f.add(at+".to", "%d is the port itself", r.To)
		}
		if j, ok := seen[r.key()]; ok {
			f.add(at, "%s is redirects[%d] already", r.key(), j)
		}
		if j, ok := nodes[r.key()]; ok {
			f.add(at, "%s is the node port forwards[%d] already", r.key(), j)
		}
		if d, ok := proxy[r.key()]; ok {
			f.add(at+".port", "%d is capture.%s, which nobody reaches directly", r.Port, d)
		}
		if d, ok := proxy[listen{r.To, r.Proto}]; ok {
			f.add(at+".to", "%d is capture.%s, which nobody reaches directly", r.To, d)
		}
		seen[r.key()] = i
	}
}

func (f *faults) proto(at string, p Proto) {
	if p != TCP && p != UDP && p != SCTP {
		f.add(at, "unknown %s", p)
	}
}
