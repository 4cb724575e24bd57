package netns

// What the external tests look at.
var (
	SysctlPath       = sysctlPath
	SortDestinations = sortDestinations
	ByFamily         = byFamily
	NameOf           = nameOf
	ParseNameServers = parseNameServers
)
