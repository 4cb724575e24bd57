package record_test

import (
	"context"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/examples/cni/record"
	"github.com/podplumb/podplumb/nat"
	"github.com/podplumb/podplumb/veth"
)

func key(id string) record.Key {
	return record.Key{Network: "net", ContainerID: id, IfName: "eth0"}
}

func create(t *testing.T, s record.Store, id string) *record.File {
	t.Helper()
	f, err := s.Create(t.Context(), key(id))
	require.NoError(t, err)
	require.NoError(t, f.Write(&record.Attachment{Key: key(id), Link: "first"}, true))
	return f
}

// TestEveryField reads back all that an entry can say.
func TestEveryField(t *testing.T) {
	t.Parallel()
	s := record.Store{Dir: t.TempDir()}
	var want record.Attachment
	fill(t, reflect.ValueOf(&want).Elem())
	want.Key = key("full")
	f, err := s.Create(t.Context(), want.Key)
	require.NoError(t, err)
	require.NoError(t, f.Write(&want, false))
	require.NoError(t, f.Close())
	f, err = s.Open(t.Context(), want.Key)
	require.NoError(t, err)
	defer f.Close()
	require.Equal(t, &want, f.Have)
}

// fill gives every field a value that is not zero.
func fill(t *testing.T, v reflect.Value) {
	t.Helper()
	switch p := v.Addr().Interface().(type) {
	case *netip.Addr:
		*p = netip.MustParseAddr("10.1.2.3")
		return
	case *netip.Prefix:
		*p = netip.MustParsePrefix("fd00::/64")
		return
	case *veth.MAC:
		*p = veth.MAC{2, 0, 0, 0, 0, 1}
		return
	case *nat.Proto:
		*p = nat.SCTP
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(t, v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(t, v.Index(0))
		fill(t, v.Index(1))
	case reflect.Map:
		e := reflect.New(v.Type().Elem()).Elem()
		fill(t, e)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(reflect.ValueOf("key \"ä\"").Convert(v.Type().Key()), e)
	case reflect.String:
		v.SetString("text <\"\\ü>")
	case reflect.Bool:
		v.SetBool(true)
	default:
		if v.CanInt() {
			v.SetInt(1)
		} else {
			v.SetUint(1)
		}
	}
	require.False(t, v.IsZero(), v.Type())
}

// TestTornEntry reads the entry before one that was cut off anywhere.
func TestTornEntry(t *testing.T) {
	t.Parallel()
	s := record.Store{Dir: t.TempDir()}
	f := create(t, s, "a")
	require.NoError(t, f.Write(&record.Attachment{Key: key("a"), Link: "second"}, false))
	require.NoError(t, f.Close())
	path := filepath.Join(s.Dir, "net", "attachments", "a@eth0")
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	for cut := len(whole); cut >= 0; cut-- {
		require.NoError(t, os.WriteFile(path, whole[:cut], 0o600))
		f, err := s.Open(t.Context(), key("a"))
		require.NoError(t, err)
		first := strings.Index(string(whole[1:]), "\n") + 2
		switch {
		case cut == len(whole):
			require.Equal(t, "second", f.Have.Link)
		case cut >= first:
			require.Equal(t, "first", f.Have.Link, cut)
			require.NoError(t, f.Write(&record.Attachment{Key: key("a"), Link: "third"}, false))
			require.NoError(t, f.Close())
			f, err = s.Open(t.Context(), key("a"))
			require.NoError(t, err)
			require.Equal(t, "third", f.Have.Link, cut)
		default:
			require.Nil(t, f.Have, cut)
		}
		require.NoError(t, f.Close())
	}
}

// TestLock lets one process in at a time, and no longer than its context; a removed file is made anew.
func TestLock(t *testing.T) {
	t.Parallel()
	s := record.Store{Dir: t.TempDir()}
	f := create(t, s, "a")
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := s.Open(short, key("a"))
	require.ErrorIs(t, err, context.DeadlineExceeded)
	got := make(chan error, 1)
	go func() {
		g, err := s.Create(context.WithoutCancel(t.Context()), key("a"))
		if err == nil {
			err = g.Close()
		}
		got <- err
	}()
	require.NoError(t, f.Remove())
	require.NoError(t, f.Close())
	require.NoError(t, <-got)
	_, err = s.Open(t.Context(), key("b"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestClaims refuses a port that is taken, on one address or on all, and not one whose holder is gone.
func TestClaims(t *testing.T) {
	t.Parallel()
	s := record.Store{Dir: t.TempDir()}
	port := func(addr string, n uint16, p nat.Proto) nat.Key {
		return nat.Key{Addr: netip.MustParseAddr(addr), Port: n, Proto: p}
	}
	a, b := create(t, s, "a"), create(t, s, "b")
	defer b.Close()
	require.NoError(t, s.ClaimPorts(t.Context(), key("a"), []nat.Key{port("0.0.0.0", 80, nat.TCP), port("::", 80, nat.TCP), port("10.0.0.1", 81, nat.TCP)}))
	for taken, want := range map[nat.Key]bool{
		port("0.0.0.0", 80, nat.TCP): true, port("10.0.0.1", 80, nat.TCP): true, port("fd00::1", 80, nat.TCP): true,
		port("0.0.0.0", 80, nat.UDP): false, port("10.0.0.2", 81, nat.TCP): false, port("0.0.0.0", 81, nat.TCP): true, port("::", 81, nat.TCP): false,
	} {
		err := s.ClaimPorts(t.Context(), key("b"), []nat.Key{port("0.0.0.0", 99, nat.TCP), taken})
		require.Equal(t, want, err != nil, "%s: %v", taken, err)
		require.Equal(t, !want, s.HoldsPort(key("b"), port("0.0.0.0", 99, nat.TCP)), taken)
		require.NoError(t, s.ReleasePorts(t.Context(), record.Claims{Key: key("b"), Ports: []nat.Key{port("0.0.0.0", 99, nat.TCP), taken}}))
		require.True(t, s.HoldsPort(key("a"), port("0.0.0.0", 80, nat.TCP)), "b has released what is a's")
	}
	require.NoError(t, a.Remove())
	require.NoError(t, a.Close())
	require.NoError(t, s.ClaimPorts(t.Context(), key("b"), []nat.Key{port("0.0.0.0", 80, nat.TCP)}))
	require.NoError(t, s.SweepPorts(t.Context()))
	require.True(t, s.HoldsPort(key("b"), port("0.0.0.0", 80, nat.TCP)))
	require.NoDirExists(t, filepath.Join(s.Dir, ".node", "ports", "tcp-81"))
}
