package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// nameMax is NAME_MAX of linux/limits.h.
const nameMax = 255

// ValidateName reports why name cannot be the name of a namespace: it must be a
// file name of at most 255 bytes (the rule of ip-netns(8)). The error names every
// fault and Is [fs.ErrInvalid].
func ValidateName(name string) error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("name: "+format+": %w", append(args, fs.ErrInvalid)...))
	}
	switch name {
	case "":
		fault("is empty")
	case ".", "..":
		fault("%q is a directory", name)
	}
	if n := len(name); n > nameMax {
		fault("has %d bytes, at most %d are allowed", n, nameMax)
	}
	if strings.Contains(name, "/") {
		fault("%q holds a slash", name)
	}
	if strings.Contains(name, "\x00") {
		fault("%q holds a NUL byte", name)
	}
	return errors.Join(faults...)
}

// sysctlPath turns a key of sysctl(8) into its path below /proc/sys. The first
// separator decides: with dots, a slash stands for a dot in a name; with slashes, dots
// are themselves.
func sysctlPath(key string) (string, error) {
	sep, swap := ".", "/"
	if i := strings.IndexAny(key, "./"); i >= 0 && key[i] == '/' {
		sep, swap = "/", ""
	}
	parts := strings.Split(key, sep)
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("key: "+format+": %w", append(args, fs.ErrInvalid)...))
	}
	if parts[0] != "net" || len(parts) < 2 {
		fault("%q does not begin with net%s, only those settings belong to a network namespace", key, sep)
	}
	if strings.Contains(key, "\x00") {
		fault("%q holds a NUL byte", key)
	}
	for i, part := range parts {
		if swap != "" {
			part = strings.ReplaceAll(part, swap, ".")
			parts[i] = part
		}
		switch part {
		case "":
			fault("%q has an empty part", key)
		case ".", "..":
			fault("%q has the part %q, which leaves the tree", key, part)
		}
	}
	return strings.Join(parts, "/"), errors.Join(faults...)
}
