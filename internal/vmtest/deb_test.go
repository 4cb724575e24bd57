package vmtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/vmtest"
)

func TestDefaultPackage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                               vmtest.DefaultPackage,
		"ID=debian\nVERSION_ID=\"12\"\n": vmtest.DefaultPackage,
		"NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n": vmtest.UbuntuPackage,
		"ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n":    vmtest.UbuntuPackage,
	} {
		require.Equal(t, want, vmtest.DefaultPackageFor([]byte(text)), text)
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ show, image, modules string }{
		{"Package: linux-image-cloud-amd64\nDepends: linux-image-6.1.0-40-cloud-amd64 (= 6.1.153-1)\n", "linux-image-6.1.0-40-cloud-amd64=6.1.153-1", ""},
		{"Package: linux-image-virtual\nDepends: linux-image-6.8.0-88-generic, intel-microcode\n", "linux-image-6.8.0-88-generic", ""},
		{"Package: linux-image-6.8.0-88-generic\nDepends: kmod, linux-base (>= 4.5ubuntu1~16.04.1), linux-modules-6.8.0-88-generic\n", "", "linux-modules-6.8.0-88-generic"},
		{"Package: linux-image-6.1.0-40-cloud-amd64\nSuggests: linux-modules-1\nDepends: kmod, linux-base (>= 4.3~)\n", "", ""},
	} {
		image, modules := vmtest.Dependencies(tt.show)
		require.Equal(t, tt.image, image, tt.show)
		require.Equal(t, tt.modules, modules, tt.show)
	}
}

// Ubuntu's modules are compressed.
func TestExpandModules(t *testing.T) {
	t.Parallel()
	tree := t.TempDir()
	deep := filepath.Join(tree, "lib/modules/6/kernel/net")
	require.NoError(t, os.MkdirAll(deep, 0o755))
	names := []string{"plain.ko"}
	require.NoError(t, os.WriteFile(filepath.Join(deep, "plain.ko"), []byte("plain"), 0o600))
	for program, ext := range map[string]string{"gzip": ".gz", "xz": ".xz", "zstd": ".zst"} {
		if _, err := exec.LookPath(program); err != nil {
			continue // one at least is on every system: gzip is essential
		}
		path := filepath.Join(deep, program+".ko")
		require.NoError(t, os.WriteFile(path, []byte(program), 0o600))
		args := map[string][]string{"gzip": {path}, "xz": {path}, "zstd": {"-q", "--rm", path}}[program]
		out, err := exec.Command(program, args...).CombinedOutput()
		require.NoError(t, err, string(out))
		require.NoFileExists(t, path)
		require.FileExists(t, path+ext)
		names = append(names, program+".ko")
	}
	require.Greater(t, len(names), 1)
	require.NoError(t, os.WriteFile(filepath.Join(deep, "modules.dep.gz"), []byte("not a module"), 0o600))
	require.NoError(t, vmtest.ExpandModules(t.Context(), tree))
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(deep, name))
		require.NoError(t, err)
		require.Equal(t, name[:len(name)-len(".ko")], string(b))
	}
	require.FileExists(t, filepath.Join(deep, "modules.dep.gz"))
}
