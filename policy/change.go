package policy

// Change names what is different from the State that a Client enforces.
type Change struct {
	// Set holds objects to add, or to put in the place of those with their names. Of Domains, the names given are set.
	Set State
	// Drop names objects to remove; those that are not there are passed over.
	Drop Drop
}

// Drop names objects.
type Drop struct {
	Namespaces      []string
	Nodes           []string
	Pods            []Name
	Policies        []Name
	ClusterPolicies []string
	Domains         []string
}

// Validate names every fault of c at once, as State.Validate does.
func (c Change) Validate() error { return c.Set.Validate() }
