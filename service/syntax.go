package service

import (
	"net/netip"
	"strings"
)

// The name rules of Kubernetes: RFC 1123 labels and subdomains, RFC 1035 labels, IANA service names (RFC 6335), and label keys and values.

func lowerAlnum(c byte) bool { return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' }

func alnum(c byte) bool { return lowerAlnum(c) || 'A' <= c && c <= 'Z' }

// isLabel reports whether s is an RFC 1123 label.
func isLabel(s string) bool {
	if len(s) == 0 || len(s) > 63 || !lowerAlnum(s[0]) || !lowerAlnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if !lowerAlnum(s[i]) && s[i] != '-' {
			return false
		}
	}
	return true
}

// isLabel1035 reports whether s is an RFC 1035 label: one that starts with a letter.
func isLabel1035(s string) bool { return isLabel(s) && 'a' <= s[0] && s[0] <= 'z' }

// isSubdomain reports whether s is an RFC 1123 subdomain.
func isSubdomain(s string) bool {
	if len(s) == 0 || len(s) > 253 {
		return false
	}
	for part := range strings.SplitSeq(s, ".") {
		if len(part) == 0 || !lowerAlnum(part[0]) || !lowerAlnum(part[len(part)-1]) {
			return false
		}
		for i := range len(part) {
			if !lowerAlnum(part[i]) && part[i] != '-' {
				return false
			}
		}
	}
	return true
}

// isPortName reports whether s is a port name: at most 15 of a-z, 0-9 and '-', with a letter, no "--", no '-' at an end.
func isPortName(s string) bool {
	if len(s) == 0 || len(s) > 15 || s[0] == '-' || s[len(s)-1] == '-' || strings.Contains(s, "--") {
		return false
	}
	letter := false
	for i := range len(s) {
		if !lowerAlnum(s[i]) && s[i] != '-' {
			return false
		}
		letter = letter || 'a' <= s[i] && s[i] <= 'z'
	}
	return letter
}

// isQualified reports whether s is "[subdomain/]name": a label key.
func isQualified(s string) bool {
	if prefix, name, ok := strings.Cut(s, "/"); ok {
		return isSubdomain(prefix) && name != "" && isLabelValue(name)
	}
	return s != "" && isLabelValue(s)
}

// isLabelValue reports whether s may be a label's value: empty, or up to 63 of A-Z, a-z, 0-9, '-', '_', '.' between alphanumerics.
func isLabelValue(s string) bool {
	if s == "" {
		return true
	}
	if len(s) > 63 || !alnum(s[0]) || !alnum(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !alnum(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// unfit says why traffic for a Service cannot be sent to or taken at an address; empty when it can.
func unfit(a netip.Addr) string {
	switch {
	case a.Zone() != "":
		return "has a zone"
	case a.IsUnspecified():
		return "is the unspecified address"
	case a.IsLoopback():
		return "is a loopback address"
	case a.IsLinkLocalUnicast():
		return "is a link-local address"
	case a.IsMulticast():
		return "is a multicast address"
	}
	return ""
}
