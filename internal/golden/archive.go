package golden

import (
	"fmt"
	"strings"
)

// Archive is a parsed txtar archive: a comment and files in their order.
type Archive struct {
	Comment string // all lines before the first file, each with its newline
	Files   []File
}

// File is one file of an Archive. Data is empty or ends with a newline.
type File struct {
	Name string
	Data string
}

// Parse reads a txtar archive. Every text is an archive: what precedes the first marker line is the comment. Every line, the last one too, comes out
// ending in one "\n", whether it ended in that, in "\r\n" or in nothing.
func Parse(data []byte) Archive {
	var a Archive
	for line := range strings.Lines(normalise(string(data))) {
		if name, ok := marker(line); ok {
			a.Files = append(a.Files, File{Name: name})
			continue
		}
		if len(a.Files) == 0 {
			a.Comment += line
			continue
		}
		a.Files[len(a.Files)-1].Data += line
	}
	return a
}

// Format writes the archive so that Parse gives it back. It refuses what txtar cannot hold: a line of a file or of the comment that reads as a
// marker, and a name that is empty or has blanks at its ends or a line break within.
func (a Archive) Format() ([]byte, error) {
	if i := markerLine(a.Comment); i > 0 {
		return nil, fmt.Errorf("golden: format archive: comment line %d reads as a file marker", i)
	}
	var b strings.Builder
	b.WriteString(normalise(a.Comment))
	for _, f := range a.Files {
		if strings.TrimSpace(f.Name) != f.Name || f.Name == "" || strings.ContainsAny(f.Name, "\r\n") {
			return nil, fmt.Errorf("golden: format archive: file name %q is not writable", f.Name)
		}
		if i := markerLine(f.Data); i > 0 {
			return nil, fmt.Errorf("golden: format archive: %s line %d reads as a file marker", f.Name, i)
		}
		b.WriteString("-- " + f.Name + " --\n")
		b.WriteString(normalise(f.Data))
	}
	return []byte(b.String()), nil
}

// Lookup returns the first file of that name, nil when there is none.
func (a *Archive) Lookup(name string) *File {
	for i := range a.Files {
		if a.Files[i].Name == name {
			return &a.Files[i]
		}
	}
	return nil
}

// marker reports the file name that a line "-- name --" announces.
func marker(line string) (string, bool) {
	line = strings.TrimRight(line, "\n")
	rest, ok := strings.CutPrefix(line, "-- ")
	if !ok {
		return "", false
	}
	name, ok := strings.CutSuffix(rest, " --")
	name = strings.TrimSpace(name)
	return name, ok && name != ""
}

// markerLine returns the number of the first line that reads as a marker, zero when there is none.
func markerLine(text string) int {
	n := 0
	for line := range strings.Lines(text) {
		n++
		if _, ok := marker(line); ok {
			return n
		}
	}
	return 0
}

// normalise ends every line with one newline, the last one too.
func normalise(s string) string {
	var b strings.Builder
	for line := range strings.Lines(s) {
		b.WriteString(strings.TrimRight(line, "\r\n"))
		b.WriteByte('\n')
	}
	return b.String()
}
