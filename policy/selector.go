package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Selector selects objects by their labels, with the JSON of Kubernetes' LabelSelector. All of its requirements must hold; an empty
// Selector selects everything. Where a Selector is a pointer, nil is not the empty one: what it means is told at the field.
type Selector struct {
	MatchLabels      map[string]string `json:"matchLabels,omitempty"`
	MatchExpressions []Requirement     `json:"matchExpressions,omitempty"`
}

// Requirement is one condition on a label.
type Requirement struct {
	Key      string   `json:"key"`
	Operator Operator `json:"operator"`
	Values   []string `json:"values,omitempty"`
}

// Operator relates a label to the values of a Requirement.
type Operator string

// The operators, as apimachinery defines them: a missing key satisfies NotIn and DoesNotExist and nothing else.
const (
	In           Operator = "In"           // the label is there and has one of the values; the empty value is a value
	NotIn        Operator = "NotIn"        // the label is missing, or has none of the values
	Exists       Operator = "Exists"       // the label is there, whatever its value
	DoesNotExist Operator = "DoesNotExist" // the label is missing
)

// String returns the operator's name.
func (o Operator) String() string { return string(o) }

// Matches reports whether labels satisfy every requirement of s. A requirement that cannot be read (an unknown operator, In and NotIn
// without values, Exists and DoesNotExist with some) is satisfied by nothing.
func (s *Selector) Matches(labels map[string]string) bool {
	for k, want := range s.MatchLabels {
		if have, ok := labels[k]; !ok || have != want {
			return false
		}
	}
	for i := range s.MatchExpressions {
		if !s.MatchExpressions[i].matches(labels) {
			return false
		}
	}
	return true
}

// readable reports whether every requirement has a meaning.
func (s *Selector) readable() bool {
	for i := range s.MatchExpressions {
		if !s.MatchExpressions[i].readable() {
			return false
		}
	}
	return true
}

func (r *Requirement) readable() bool {
	switch r.Operator {
	case In, NotIn:
		return len(r.Values) > 0
	case Exists, DoesNotExist:
		return len(r.Values) == 0
	}
	return false
}

func (r *Requirement) matches(labels map[string]string) bool {
	if !r.readable() {
		return false
	}
	have, ok := labels[r.Key]
	switch r.Operator {
	case In:
		return ok && slices.Contains(r.Values, have)
	case NotIn:
		return !ok || !slices.Contains(r.Values, have)
	case Exists:
		return ok
	case DoesNotExist:
		return !ok
	}
	return false
}

// Empty reports whether s has no requirement, and so selects everything.
func (s *Selector) Empty() bool { return len(s.MatchLabels) == 0 && len(s.MatchExpressions) == 0 }

// String prints the selector in kubectl's notation, sorted: "app=web,tier in (a,b),!old". The empty selector is "<all>".
func (s *Selector) String() string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(s.MatchLabels)) {
		parts = append(parts, k+"="+s.MatchLabels[k])
	}
	for _, r := range s.MatchExpressions {
		switch r.Operator {
		case Exists:
			parts = append(parts, r.Key)
		case DoesNotExist:
			parts = append(parts, "!"+r.Key)
		default:
			values := slices.Sorted(slices.Values(r.Values))
			parts = append(parts, fmt.Sprintf("%s %s (%s)", r.Key, strings.ToLower(string(r.Operator)), strings.Join(values, ",")))
		}
	}
	if len(parts) == 0 {
		return "<all>"
	}
	return strings.Join(parts, ",")
}
