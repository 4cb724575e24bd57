package golden_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/golden"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, in string
		want     golden.Archive
	}{
		{"empty", "", golden.Archive{}},
		{"comment only", "a\nb", golden.Archive{Comment: "a\nb\n"}},
		{"two files", "c\n-- a --\n1\n-- dir/b.txt --\n2\n", golden.Archive{
			Comment: "c\n",
			Files:   []golden.File{{Name: "a", Data: "1\n"}, {Name: "dir/b.txt", Data: "2\n"}},
		}},
		{"empty file, last line open", "-- a --\n-- b --\nx", golden.Archive{
			Files: []golden.File{{Name: "a"}, {Name: "b", Data: "x\n"}},
		}},
		{"crlf", "-- a --\r\nx\r\n", golden.Archive{Files: []golden.File{{Name: "a", Data: "x\n"}}}},
		{"near markers are text", "-- a --\n--\n-- --\n--  --\n--b--\n -- c --\n-- d -- \n", golden.Archive{
			Files: []golden.File{{Name: "a", Data: "--\n-- --\n--  --\n--b--\n -- c --\n-- d -- \n"}},
		}},
		{"blanks around the name", "--   a b   --\n", golden.Archive{Files: []golden.File{{Name: "a b"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, golden.Parse([]byte(tt.in)))
		})
	}
}

func TestFormatRefusesWhatItCannotHold(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]golden.Archive{
		"marker in comment":  {Comment: "x\n-- y --\n"},
		"marker in a file":   {Files: []golden.File{{Name: "a", Data: "-- b --"}}},
		"empty name":         {Files: []golden.File{{Name: ""}}},
		"name with blanks":   {Files: []golden.File{{Name: " a"}}},
		"name with newlines": {Files: []golden.File{{Name: "a\nb"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := a.Format()
			require.ErrorContains(t, err, "golden: format archive: ")
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("c\n-- a --\n1\r\n-- b --\n2"))
	f.Add([]byte("-- --\n-- \x00 --\n\r"))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := golden.Parse(data)
		for i := range a.Files {
			require.NotEmpty(t, a.Files[i].Name)
			require.NotNil(t, a.Lookup(a.Files[i].Name))
		}
		text, err := a.Format()
		if err != nil {
			return // a name with a carriage return within
		}
		require.Equal(t, a, golden.Parse(text))
	})
}
