package policy

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// faults collects what is wrong, each with the path of its field.
type faults struct {
	errs []error

	// While silent is set, paths are left empty and it is only noted that something was found.
	silent, found bool
}

// check looks at an object. Most have no fault, and to write down the paths of all their fields takes longer than to look at them: so that
// is done only when there is one.
func (f *faults) check(look func(path string), path func() string) {
	f.silent, f.found = true, false
	look("")
	f.silent = false
	if f.found {
		look(path())
	}
}

// at is the path of an entry of a list.
func (f *faults) at(path, field string, i int) string {
	if f.silent {
		return ""
	}
	return path + field + "[" + strconv.Itoa(i) + "]"
}

func (f *faults) add(path, format string, args ...any) {
	if f.silent {
		f.found = true
		return
	}
	f.errs = append(f.errs, &FieldError{Path: path, Err: fmt.Errorf(format, args...)})
}

func (f *faults) join() error { return errors.Join(f.errs...) }

// The syntax of names: RFC 1123 labels and subdomains, RFC 6335 service names, and Kubernetes' own label keys and values. Most of what
// there is to look at in a State is such names: they are looked at by hand.
const (
	maxLabel     = 63
	maxSubdomain = 253
	maxPortName  = 15
)

// lower and letters say which characters names have at their ends, and within with what else.
func lower(c byte) bool   { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
func letters(c byte) bool { return lower(c) || c >= 'A' && c <= 'Z' }

func isName(s string, most int, end func(byte) bool, within string) bool {
	if s == "" || len(s) > most || !end(s[0]) || !end(s[len(s)-1]) {
		return false
	}
	for i := 0; i < len(s); i++ {
		if !end(s[i]) && strings.IndexByte(within, s[i]) < 0 {
			return false
		}
	}
	return true
}

func isDNSLabel(s string) bool   { return isName(s, maxLabel, lower, "-") }
func isLabelName(s string) bool  { return isName(s, maxLabel, letters, "-_.") }
func isLabelValue(s string) bool { return s == "" || isLabelName(s) }
func isPortName(s string) bool   { return isName(s, maxPortName, lower, "-") }

func isSubdomain(s string) bool {
	if len(s) > maxSubdomain {
		return false
	}
	for {
		label, rest, more := strings.Cut(s, ".")
		if !isName(label, maxSubdomain, lower, "-") {
			return false
		}
		if !more {
			return true
		}
		s = rest
	}
}

var domainPattern = regexp.MustCompile(`^(\*\.)?([a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.)+[a-zA-z0-9]([-a-zA-Z0-9_]*[a-zA-Z0-9])?\.?$`) // A-z is the CRD's

func (f *faults) subdomain(path, s string) {
	switch {
	case s == "":
		f.add(path, "is required")
	case !isSubdomain(s):
		f.add(path, "%q is no DNS subdomain: lower case letters, digits, '-' and '.', at most 253 characters (RFC 1123)", s)
	}
}

func (f *faults) namespace(path, s string) {
	switch {
	case s == "":
		f.add(path, "is required")
	case !isDNSLabel(s):
		f.add(path, "%q is no DNS label: lower case letters, digits and '-', at most 63 characters (RFC 1123)", s)
	}
}

func (f *faults) labelKey(path, key string) {
	prefix, name, found := strings.Cut(key, "/")
	if !found {
		prefix, name = "", key
	}
	if found && !isSubdomain(prefix) || !isLabelName(name) {
		f.add(path, "%q is no label key: a name of at most 63 letters, digits, '-', '_' and '.', after an optional DNS subdomain and '/'", key)
	}
}

func (f *faults) labelValue(path, value string) {
	if !isLabelValue(value) {
		f.add(path, "%q is no label value: at most 63 letters, digits, '-', '_' and '.', first and last a letter or digit", value)
	}
}

func (f *faults) selector(path string, s *Selector) {
	f.labels(path+".matchLabels", s.MatchLabels)
	for i := range s.MatchExpressions {
		r := &s.MatchExpressions[i]
		at := f.at(path, ".matchExpressions", i)
		f.labelKey(at+".key", r.Key)
		switch r.Operator {
		case In, NotIn:
			if len(r.Values) == 0 {
				f.add(at+".values", "operator %s needs values", r.Operator)
			}
		case Exists, DoesNotExist:
			if len(r.Values) > 0 {
				f.add(at+".values", "operator %s takes no values", r.Operator)
			}
		default:
			f.add(at+".operator", "%q is none of In, NotIn, Exists, DoesNotExist", string(r.Operator))
		}
		for j, v := range r.Values {
			f.labelValue(f.at(at, ".values", j), v)
		}
	}
}

func (f *faults) network(path, s string) {
	if _, ok := parseNetwork(s); !ok {
		f.add(path, "%q is no address range such as 10.9.8.0/24 or 2001:db8::/64", s)
	}
}

func (f *faults) portNumber(path string, n int32) {
	if n < 1 || n > 65535 {
		f.add(path, "%d is no port: 1 to 65535", n)
	}
}

func (f *faults) portName(path, s string) {
	if !isPortName(s) || strings.Contains(s, "--") || !strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") {
		f.add(path, "%q is no port name: at most 15 lower case letters, digits and single '-', with a letter (RFC 6335)", s)
	}
}
