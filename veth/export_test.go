package veth

// Tag is the content of an owned link's alias, for tests.
type Tag struct {
	Owner, NetNS string
	Sysctls      []string
}

// ParseTag and Text convert between a tag and its alias.
func ParseTag(alias string) Tag {
	t := parseTag(alias)
	return Tag{Owner: t.owner, NetNS: t.netns, Sysctls: t.sysctls}
}

func (t Tag) Text() string { return tag{owner: t.Owner, netns: t.NetNS, sysctls: t.Sysctls}.String() }
