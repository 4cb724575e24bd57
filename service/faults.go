package service

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// faults collects every fault of an input together with where it is. The path is kept as steps and only written out for a fault, so that sound input
// costs nothing.
type faults struct {
	steps []step
	errs  []error
}

type step struct {
	field string
	key   Name // an object by its name
	index int  // an element by its index; -1: neither
}

// in goes down into a field; out comes back.
func (f *faults) in(field string) { f.steps = append(f.steps, step{field: field, index: -1}) }

// at goes down into an element of a list.
func (f *faults) at(field string, i int) { f.steps = append(f.steps, step{field: field, index: i}) }

// object goes down into an object, shown by its name where it has one.
func (f *faults) object(list string, i int, n Name) {
	s := step{field: list, index: i}
	if n.Name != "" {
		s.key = n
	}
	f.steps = append(f.steps, s)
}

func (f *faults) out() { f.steps = f.steps[:len(f.steps)-1] }

func (f *faults) path() string {
	var b strings.Builder
	for i, s := range f.steps {
		if i > 0 {
			b.WriteByte('.')
		}
		b.WriteString(s.field)
		switch {
		case s.key.Namespace != "":
			b.WriteString("[" + s.key.String() + "]")
		case s.key.Name != "":
			b.WriteString("[" + s.key.Name + "]")
		case s.index >= 0:
			b.WriteString("[" + strconv.Itoa(s.index) + "]")
		}
	}
	return b.String()
}

// here records a fault of the value that the path leads to.
func (f *faults) here(format string, args ...any) {
	f.errs = append(f.errs, &FieldError{Path: f.path(), Err: fmt.Errorf(format, args...)})
}

// on records a fault of a field below.
func (f *faults) on(field, format string, args ...any) {
	f.in(field)
	f.here(format, args...)
	f.out()
}

func (f *faults) err() error { return errors.Join(f.errs...) }
