package conf

import (
	"encoding"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// unknownKeys returns an error for each key in raw that t has no field for, in the order of their paths.
func unknownKeys(path string, raw json.RawMessage, t reflect.Type) []error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) || t == reflect.TypeFor[json.RawMessage]() {
		return nil
	}
	var errs []error
	switch t.Kind() {
	case reflect.Slice:
		var list []json.RawMessage
		if json.Unmarshal(raw, &list) != nil {
			return nil // of the wrong kind: decoding says so
		}
		for i, e := range list {
			errs = append(errs, unknownKeys(fmt.Sprintf("%s[%d]", path, i), e, t.Elem())...)
		}
	case reflect.Struct:
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil {
			return nil
		}
		known := map[string]reflect.Type{}
		fields(t, known)
		for _, key := range slices.Sorted(maps.Keys(object)) {
			at := strings.TrimPrefix(path+"."+key, ".")
			if path == "" && key == "runtimeConfig" {
				continue // no person has written it, and containerd writes HostPort, which decoding takes for hostPort
			}
			if field, ok := known[key]; ok {
				errs = append(errs, unknownKeys(at, object[key], field)...)
			} else if !open(t) && !strings.Contains(key, "/") { // a/b is somebody's extension
				errs = append(errs, fmt.Errorf("%s: unknown key%s", at, hint(key, slices.Sorted(maps.Keys(known)))))
			}
		}
	}
	return errs
}

// open tells the objects that may hold keys of others: the runtime's capabilities and the arguments.
func open(t reflect.Type) bool {
	switch t {
	case reflect.TypeFor[Runtime](), reflect.TypeFor[Args](), reflect.TypeFor[CNIArgs]():
		return true
	}
	return false
}

// fields collects the JSON keys of a struct, those of embedded structs too.
func fields(t reflect.Type, into map[string]reflect.Type) {
	for i := range t.NumField() {
		f := t.Field(i)
		if f.Anonymous {
			fields(f.Type, into)
			continue
		}
		if key, _, _ := strings.Cut(f.Tag.Get("json"), ","); key != "-" && key != "" {
			into[key] = f.Type
		}
	}
}

// hint names the known key that is nearest to a misspelt one, if any is near.
func hint(key string, known []string) string {
	best, near := "", 1+len(key)/3
	for _, k := range known {
		if d := distance(strings.ToLower(key), strings.ToLower(k)); d <= near {
			best, near = k, d-1
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance counts the insertions, deletions, substitutions and swaps of neighbours between two words.
func distance(a, b string) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range rows[0] {
		rows[0][j] = j
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
