package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"path"
	"strings"

	"sigs.k8s.io/yaml"
)

// document is one object of a file, as JSON.
type document struct {
	source Source
	json   []byte
	err    error // why it is neither YAML nor JSON
}

// split cuts a file into documents.
func split(file string, data []byte) []document {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	if strings.EqualFold(path.Ext(file), ".json") {
		return splitJSON(file, data)
	}
	return splitYAML(file, data)
}

// splitJSON reads JSON values that follow each other.
func splitJSON(file string, data []byte) []document {
	var docs []document
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		rest := data[decoder.InputOffset():]
		begin := len(data) - len(bytes.TrimLeft(rest, " \t\r\n"))
		source := Source{File: file, Document: len(docs) + 1, Line: 1 + bytes.Count(data[:begin], []byte("\n"))}
		var raw json.RawMessage
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) {
				source.Line = 1 + bytes.Count(data[:min(int(syntax.Offset), len(data))], []byte("\n"))
			}
			return append(docs, document{source: source, err: err}) // what follows a syntax error cannot be told apart
		}
		docs = append(docs, document{source: source, json: raw})
	}
}

// splitYAML cuts at the document markers of YAML 1.2 (section 9.1): a line that begins with --- or ... and a blank after it.
func splitYAML(file string, data []byte) []document {
	var docs []document
	count, start := 0, 1 // documents so far, first line of the present one
	var text strings.Builder
	flush := func(next int) {
		body := text.String()
		text.Reset()
		begin := start
		first := begin
		start = next
		if isBlank(body) {
			return
		}
		count++
		for line := range strings.Lines(body) {
			if !isBlank(line) {
				break
			}
			first++ // the line of the first content, not of the comment above it
		}
		source := Source{File: file, Document: count, Line: first}
		// Empty lines in front make the parser's line numbers those of the file.
		raw, err := yaml.YAMLToJSONStrict([]byte(strings.Repeat("\n", begin-1) + body))
		docs = append(docs, document{source, raw, err})
	}
	line := 0
	for content := range strings.Lines(string(data)) {
		line++
		switch marker, rest := cutMarker(content); marker {
		case "---":
			flush(line)
			text.WriteString(rest)
		case "...":
			flush(line)
			text.WriteString("\n")
		default:
			text.WriteString(content)
		}
	}
	flush(line + 1)
	return docs
}

// cutMarker returns the marker that the line begins with and what follows it, moved right so that columns stay.
func cutMarker(line string) (marker, rest string) {
	for _, marker := range []string{"---", "..."} {
		if rest, ok := strings.CutPrefix(line, marker); ok && (rest == "" || strings.ContainsAny(rest[:1], " \t\r\n")) {
			return marker, "   " + rest
		}
	}
	return "", ""
}

// isBlank tells whether the text has nothing but comments and directives.
func isBlank(text string) bool {
	for line := range strings.Lines(text) {
		if trimmed := strings.TrimSpace(line); trimmed != "" && trimmed[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}
