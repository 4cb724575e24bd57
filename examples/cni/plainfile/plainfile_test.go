package plainfile_test

import (
	"context"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/podplumb/podplumb/examples/cni/plainfile"
)

// TestFile writes a file into a directory that is missing, twice, and reads its beginning.
func TestFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "a", "b", "file")
	_, err := plainfile.Read(path)
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = plainfile.Open(path, unix.O_RDONLY, 0)
	require.ErrorIs(t, err, fs.ErrNotExist)
	for _, text := range []string{"one", "two", strings.Repeat("x", 600)} {
		require.NoError(t, plainfile.Overwrite(path, []byte(text)))
		have, err := plainfile.Read(path)
		require.NoError(t, err)
		require.Equal(t, text[:min(len(text), 512)], string(have))
	}
}

// TestLock keeps a second one out until the first is closed, or the context ends.
func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := plainfile.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600)
	require.NoError(t, err)
	second, err := plainfile.Open(path, unix.O_CREAT|unix.O_RDWR, 0o600)
	require.NoError(t, err)
	defer second.Close()
	require.NoError(t, plainfile.Lock(t.Context(), first))
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, plainfile.Lock(short, second), context.DeadlineExceeded)
	require.NoError(t, first.Close())
	require.NoError(t, plainfile.Lock(t.Context(), second))
}
