package jsonlite

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Reader fills values from JSON. The zero Reader passes over what it does not know, and matches keys whatever their case.
type Reader struct {
	// Unknown, if not nil, is told of each key that a struct of the type has no field for, and which ones there are.
	Unknown func(path, key string, in reflect.Type, known []string)

	faults []error
}

// Read fills v, a pointer, and returns every fault, each with the path of its key.
func (r *Reader) Read(data []byte, v any) []error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var tree any
	err := d.Decode(&tree)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("there is more after the end of the JSON value")
		}
	}
	if err != nil {
		at := len(data)
		if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
			at = min(int(syntax.Offset), len(data))
		}
		line := 1 + bytes.Count(data[:at], []byte("\n"))
		return []error{fmt.Errorf("line %d: %w", line, err)}
	}
	r.faults = nil
	r.set("", tree, reflect.ValueOf(v).Elem())
	return r.faults
}

// Unmarshal is Read with the zero Reader.
func Unmarshal(data []byte, v any) error {
	var r Reader
	if faults := r.Read(data, v); len(faults) > 0 {
		return faults[0]
	}
	return nil
}

func (r *Reader) fault(path, format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if path != "" {
		err = fmt.Errorf("%s: %w", path, err)
	}
	r.faults = append(r.faults, err)
}

// set gives v the value of a part of the tree. null leaves it as it is.
func (r *Reader) set(path string, from any, v reflect.Value) {
	if from == nil {
		return
	}
	if v.Type() == reflect.TypeFor[json.RawMessage]() {
		raw, err := json.Marshal(from)
		if err != nil {
			r.fault(path, "%w", err)
		}
		v.SetBytes(raw)
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		r.set(path, from, v.Elem())
		return
	}
	if t, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if s, is := from.(string); !is {
			r.wrong(path, from, v)
		} else if err := t.UnmarshalText([]byte(s)); err != nil {
			r.fault(path, "%w", err)
		}
		return
	}
	switch have := from.(type) {
	case string:
		if v.Kind() != reflect.String {
			r.wrong(path, from, v)
			return
		}
		v.SetString(have)
	case bool:
		if v.Kind() != reflect.Bool {
			r.wrong(path, from, v)
			return
		}
		v.SetBool(have)
	case json.Number:
		r.setNumber(path, have, v)
	case []any:
		if v.Kind() != reflect.Slice {
			r.wrong(path, from, v)
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), len(have), len(have)))
		for i, e := range have {
			r.set(fmt.Sprintf("%s[%d]", path, i), e, v.Index(i))
		}
	case map[string]any:
		r.setObject(path, have, v)
	}
}

func (r *Reader) setNumber(path string, n json.Number, v reflect.Value) {
	var err error
	switch {
	case v.CanInt():
		var i int64
		if i, err = strconv.ParseInt(n.String(), 10, v.Type().Bits()); err == nil {
			v.SetInt(i)
		}
	case v.CanUint():
		var u uint64
		if u, err = strconv.ParseUint(n.String(), 10, v.Type().Bits()); err == nil {
			v.SetUint(u)
		}
	default:
		r.wrong(path, n, v)
	}
	if err != nil {
		r.fault(path, "%s is %s", n, outside(v))
	}
}

// outside says what a number is that does not fit.
func outside(v reflect.Value) string {
	if v.CanUint() {
		return "no whole number from 0 on, or too large"
	}
	return "no whole number, or too large"
}

func (r *Reader) setObject(path string, have map[string]any, v reflect.Value) {
	below := func(key string) string { return strings.TrimPrefix(path+"."+key, ".") }
	switch v.Kind() {
	case reflect.Map:
		v.Set(reflect.MakeMapWithSize(v.Type(), len(have)))
		for _, key := range slices.Sorted(maps.Keys(have)) {
			e := reflect.New(v.Type().Elem()).Elem()
			r.set(below(key), have[key], e)
			v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), e)
		}
	case reflect.Struct:
		known := fieldsOf(v.Type())
		for _, key := range slices.Sorted(maps.Keys(have)) {
			f, ok := known[key]
			if !ok && r.Unknown != nil {
				r.Unknown(path, key, v.Type(), slices.Sorted(maps.Keys(known)))
			}
			if !ok {
				f, ok = folded(known, key)
			}
			if ok {
				r.set(below(key), have[key], v.FieldByIndex(f.Index))
			}
		}
	default:
		r.wrong(path, have, v)
	}
}

// folded finds a field by its key in another case.
func folded(known map[string]reflect.StructField, key string) (f reflect.StructField, ok bool) {
	for name, f := range known {
		if strings.EqualFold(name, key) {
			return f, true
		}
	}
	return f, false
}

// seen holds the fields of each type that was read.
var seen sync.Map

// fieldsOf are the fields of a struct by their keys, those of embedded structs too.
func fieldsOf(t reflect.Type) map[string]reflect.StructField {
	if known, ok := seen.Load(t); ok {
		return known.(map[string]reflect.StructField)
	}
	known := map[string]reflect.StructField{}
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous && f.Type.Kind() == reflect.Struct {
			for name, inner := range fieldsOf(f.Type) {
				inner.Index = append(slices.Clone(f.Index), inner.Index...)
				known[name] = inner
			}
			continue
		}
		if name := nameOf(&f); name != "" {
			known[name] = f
		}
	}
	seen.Store(t, known)
	return known
}

// wrong tells that a value is of another kind than the field.
func (r *Reader) wrong(path string, have any, v reflect.Value) {
	r.fault(path, "is %s where %s is wanted", kindOf(have), wanted(v))
}

func kindOf(have any) string {
	switch have.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case json.Number:
		return "a number"
	case []any:
		return "a list"
	}
	return "an object"
}

func wanted(v reflect.Value) string {
	switch {
	case v.Kind() == reflect.Bool:
		return "true or false"
	case v.CanInt(), v.CanUint():
		return "a whole number"
	case v.Kind() == reflect.Slice:
		return "a list"
	case v.Kind() == reflect.Map, v.Kind() == reflect.Struct && !reflect.PointerTo(v.Type()).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()):
		return "an object"
	}
	return "a string"
}
