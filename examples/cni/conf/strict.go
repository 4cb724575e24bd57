package conf

import (
	"fmt"
	"reflect"
	"strings"
)

// unknown is the fault of a key that there is no field for.
func unknown(path, key string, in reflect.Type, known []string) error {
	if strings.HasPrefix(path, "runtimeConfig") { // no person has written it, and containerd writes HostPort, which is taken for hostPort
		return nil
	}
	if in == reflect.TypeFor[Args]() || in == reflect.TypeFor[CNIArgs]() || strings.Contains(key, "/") { // a/b is somebody's extension
		return nil
	}
	return fmt.Errorf("%s: unknown key%s", strings.TrimPrefix(path+"."+key, "."), hint(key, known))
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
