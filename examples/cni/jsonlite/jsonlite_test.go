package jsonlite_test

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"testing"
	"testing/quick"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/jsonlite"
)

type Inner struct {
	N     int
	Text  string `json:"text,omitempty"`
	Small uint8
}

type generated struct {
	Inner
	Name  string
	On    bool
	Off   *bool
	Count uint64
	Less  int64
	List  []Inner
	Deep  [][]string
	Names map[string]string
	Caps  map[string]bool
	Maybe *Inner
	Not   int `json:"-"`
}

type sample struct {
	generated
	At   netip.Addr
	Nets []netip.Prefix
}

// TestRoundTrip writes random values and reads them back, here and with encoding/json.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	check := func(g generated, addr [4]byte, bits uint8) bool {
		g.Not = 0
		in := struct {
			Generated generated
			At        netip.Addr
			Nets      []netip.Prefix
		}{Generated: g, At: netip.AddrFrom4(addr), Nets: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4(addr), int(bits%33))}}
		text, err := jsonlite.Marshal(&in)
		require.NoError(t, err)
		want, err := json.Marshal(in)
		require.NoError(t, err)
		theirs, ours := reflect.New(reflect.TypeOf(in)), reflect.New(reflect.TypeOf(in))
		require.NoError(t, json.Unmarshal(text, theirs.Interface()), "%s", text)
		require.NoError(t, jsonlite.Unmarshal(text, ours.Interface()), "%s", text)
		for _, got := range []reflect.Value{theirs, ours} {
			back, err := json.Marshal(got.Interface())
			require.NoError(t, err)
			require.JSONEq(t, string(want), string(back))
		}
		// What encoding/json writes is understood too.
		again := reflect.New(reflect.TypeOf(in))
		require.NoError(t, jsonlite.Unmarshal(want, again.Interface()), "%s", want)
		require.Equal(t, ours.Elem().FieldByName("Generated").FieldByName("Count").Uint(), again.Elem().FieldByName("Generated").FieldByName("Count").Uint())
		return true
	}
	require.NoError(t, quick.Check(check, &quick.Config{MaxCount: 300}))
}

// TestZero leaves out what is zero, but not what a pointer leads to.
func TestZero(t *testing.T) {
	t.Parallel()
	no := false
	text, err := jsonlite.Marshal(generated{Off: &no, List: []Inner{{}}, Not: 1})
	require.NoError(t, err)
	require.Equal(t, `{"Off":false,"List":[{}]}`, string(text))
	_, err = jsonlite.Marshal(struct{ B []byte }{[]byte{1}})
	require.Error(t, err)
	_, err = jsonlite.Marshal(struct{ F func() }{func() {}})
	require.Error(t, err)
}

// TestFaults names every fault with its path, and sets the rest.
func TestFaults(t *testing.T) {
	t.Parallel()
	var got sample
	var r jsonlite.Reader
	faults := r.Read([]byte(`{"Name":1,"On":"yes","Count":-1,"Less":9e99,"small":300,"List":{},"Deep":[["a",2]],"Names":[],"At":"10.x","Nets":["10.0.0.0/8",true],"Maybe":[],
		"text":"ok","other":{"x":1},"Caps":null}`), &got)
	text := ""
	for _, f := range faults {
		text += f.Error() + "\n"
	}
	require.Equal(t, `At: ParseAddr("10.x"): unexpected character (at "x")
Count: -1 is no whole number from 0 on, or too large
Deep[0][1]: is a number where a string is wanted
Less: 9e99 is no whole number, or too large
List: is an object where a list is wanted
Maybe: is a list where an object is wanted
Name: is a number where a string is wanted
Names: is a list where an object is wanted
Nets[1]: is a boolean where a string is wanted
On: is a string where true or false is wanted
small: 300 is no whole number from 0 on, or too large
`, text)
	require.Equal(t, "ok", got.Text)
	require.Equal(t, netip.MustParsePrefix("10.0.0.0/8"), got.Nets[0])
	for _, bad := range []string{"", "{", "{\"a\":1}\n}", "[1", "{\n\"a\":01}"} {
		require.ErrorContains(t, jsonlite.Unmarshal([]byte(bad), &got), "line ", bad)
	}
}

// FuzzRead agrees with encoding/json on what is JSON.
func FuzzRead(f *testing.F) {
	for _, s := range []string{`{"Name":"x","List":[{"N":1}]}`, `{"Off":null}`, `{"Count":18446744073709551615}`, "{}", "{} {}", `{"Name":"\ud800"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var ours, theirs generated
		if err := json.Unmarshal(text, &theirs); err == nil {
			require.NoError(t, jsonlite.Unmarshal(text, &ours))
		}
	})
}
