package veth

import (
	"maps"
	"slices"
	"strings"
)

// tag is what the alias of an owned link says: "OWNER[/ATTACHMENT] [sysctl=NAME,NAME] [netns=PATH]". The path comes last, so that it
// may hold spaces. Sysctl names are written without "net." and with * for the link's name.
type tag struct {
	owner   string
	netns   string
	sysctls []string
}

func (t tag) String() string {
	var b strings.Builder
	b.WriteString(t.owner)
	if len(t.sysctls) > 0 {
		b.WriteString(" sysctl=")
		for i, name := range t.sysctls {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(strings.ReplaceAll(strings.TrimPrefix(name, "net."), placeholder, "*"))
		}
	}
	if t.netns != "" {
		b.WriteString(" netns=" + t.netns)
	}
	return b.String()
}

func parseTag(alias string) tag {
	var t tag
	var rest string
	t.owner, rest, _ = strings.Cut(alias, " ")
	if names, ok := strings.CutPrefix(rest, "sysctl="); ok {
		names, rest, _ = strings.Cut(names, " ")
		for name := range strings.SplitSeq(names, ",") {
			if name != "" {
				t.sysctls = append(t.sysctls, "net."+strings.ReplaceAll(name, "*", placeholder))
			}
		}
	}
	if path, ok := strings.CutPrefix(rest, "netns="); ok {
		t.netns = path
	}
	return t
}

func sysctlNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func (b *Bridge) tag(owner string) tag { return tag{owner: owner, sysctls: sysctlNames(b.Sysctls)} }

func (p *Pair) hostTag(owner string) tag {
	return tag{owner: owner, netns: p.Pod.NetNS, sysctls: sysctlNames(p.Host.Sysctls)}
}

func (p *Pair) podTag(owner string) tag {
	return tag{owner: owner, sysctls: sysctlNames(p.Pod.Sysctls)}
}

// aliases reports what does not fit into an interface alias. The state is canonical; its order is no longer the caller's, so faults go
// by name.
func (s State) aliases(owner string) []error {
	var out []error
	fit := func(at string, t tag) {
		if n := len(t.String()); n > maxAlias {
			out = append(out, &FieldError{Path: at, Fault: "owner, sysctl names and namespace path take more than the 255 bytes of a link alias"})
		}
	}
	for i := range s.Bridges {
		fit("bridge "+s.Bridges[i].Name, s.Bridges[i].tag(ownerOf(owner)))
	}
	for i := range s.Pairs {
		fit("pair "+s.Pairs[i].Host.Name, s.Pairs[i].hostTag(owner))
		fit("pair "+s.Pairs[i].Host.Name+" pod", s.Pairs[i].podTag(owner))
	}
	return out
}

// ownerOf is the owner in "owner/attachment".
func ownerOf(tag string) string {
	owner, _, _ := strings.Cut(tag, "/")
	return owner
}
