package run

import (
	"errors"
	"flag"
	"strings"

	"github.com/podplumb/podplumb/netns"
)

// List adds a flag whose value is a list with commas between its items.
func List[T any](flags *flag.FlagSet, name, usage string, to *[]T, parse func(string) (T, error)) {
	flags.Func(name, usage, func(text string) error {
		*to = nil
		var faults []error
		for item := range strings.SplitSeq(text, ",") {
			v, err := parse(strings.TrimSpace(item))
			if err != nil {
				faults = append(faults, err)
			}
			*to = append(*to, v)
		}
		return errors.Join(faults...)
	})
}

// Text is for lists of items that are taken as they are.
func Text(s string) (string, error) { return s, nil }

// OpenNetNS opens a network namespace by a name of `ip netns` or by its path.
func OpenNetNS(name string) (*netns.NS, error) {
	if strings.Contains(name, "/") {
		return netns.Open(name)
	}
	return netns.OpenName(name)
}
