package policy

import "errors"

// Compile makes the Ruleset that enforces the policies of s for all of its pods. It fails with the faults of s that Validate finds; only
// what may be of a later version of the API (see ErrUnknown) is no fault here, and fails closed as Evaluate says.
func Compile(s State) (Ruleset, error) { return Config{}.Compile(s) }

// Compile makes the Ruleset that a Client with this Config gives a node for s.
func (c Config) Compile(s State) (Ruleset, error) {
	if err := c.complete(); err != nil {
		return Ruleset{}, err
	}
	if err := known(s.Validate()); err != nil {
		return Ruleset{}, err
	}
	w := newWorld(&c)
	w.change(Change{Set: s})
	return *w.rules, w.err
}

// known leaves out the faults that may be none in a later version.
func known(err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var faults []error
	for _, fault := range joined.Unwrap() {
		if !errors.Is(fault, ErrUnknown) {
			faults = append(faults, fault)
		}
	}
	return errors.Join(faults...)
}
