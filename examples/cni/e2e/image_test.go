package e2e_test

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// imageName is the image of all containers, and of pods' sandboxes too.
const imageName = "localhost/podplumb/busybox:1"

// whoami is what the web server in a pod runs: it says who asked, and whom.
const whoami = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s %s' \"$REMOTE_ADDR\" \"$(cat /proc/sys/kernel/hostname)\"\n"

// writeImage writes an OCI image archive of busybox and returns its path.
func writeImage(t testing.TB, dir string) string {
	t.Helper()
	busybox, err := exec.LookPath("busybox")
	require.NoError(t, err)
	require.NoError(t, static(busybox))
	program, err := os.ReadFile(busybox)
	require.NoError(t, err)
	applets, err := exec.Command(busybox, "--list").Output()
	require.NoError(t, err)

	layer := newArchive()
	for _, d := range []string{"bin", "etc", "tmp", "www", "www/cgi-bin", "proc", "sys", "dev"} {
		layer.add(t, &tar.Header{Name: d + "/", Typeflag: tar.TypeDir, Mode: 0o755}, nil)
	}
	layer.add(t, &tar.Header{Name: "bin/busybox", Mode: 0o755}, program)
	for _, applet := range strings.Fields(string(applets)) {
		if applet != "busybox" {
			layer.add(t, &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, nil)
		}
	}
	layer.add(t, &tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\n"))
	layer.add(t, &tar.Header{Name: "www/cgi-bin/whoami", Mode: 0o755}, []byte(whoami))

	image := newArchive()
	image.add(t, &tar.Header{Name: "oci-layout", Mode: 0o644}, []byte(`{"imageLayoutVersion":"1.0.0"}`))
	blob := func(mediaType string, content []byte) map[string]any {
		sum := sha256.Sum256(content)
		image.add(t, &tar.Header{Name: fmt.Sprintf("blobs/sha256/%x", sum), Mode: 0o644}, content)
		return map[string]any{"mediaType": mediaType, "digest": fmt.Sprintf("sha256:%x", sum), "size": len(content)}
	}
	root := blob("application/vnd.oci.image.layer.v1.tar", layer.close(t))
	config := blob("application/vnd.oci.image.config.v1+json", encode(t, map[string]any{
		"architecture": runtime.GOARCH, "os": "linux",
		"config": map[string]any{"Env": []string{"PATH=/bin"}, "Cmd": []string{"sleep", "2147483647"}},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []any{root["digest"]}},
	}))
	const manifestType = "application/vnd.oci.image.manifest.v1+json"
	manifest := blob(manifestType, encode(t, map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": []any{root}}))
	manifest["annotations"] = map[string]string{"io.containerd.image.name": imageName, "org.opencontainers.image.ref.name": imageName}
	image.add(t, &tar.Header{Name: "index.json", Mode: 0o644}, encode(t, map[string]any{"schemaVersion": 2, "manifests": []any{manifest}}))

	path := filepath.Join(dir, "busybox.tar")
	require.NoError(t, os.WriteFile(path, image.close(t), 0o600))
	return path
}

func encode(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	require.NoError(t, err)
	return text
}

type archive struct {
	buffer bytes.Buffer
	w      *tar.Writer
}

func newArchive() *archive {
	a := &archive{}
	a.w = tar.NewWriter(&a.buffer)
	return a
}

func (a *archive) add(t testing.TB, header *tar.Header, content []byte) {
	t.Helper()
	header.Size = int64(len(content))
	require.NoError(t, a.w.WriteHeader(header))
	_, err := a.w.Write(content)
	require.NoError(t, err)
}

func (a *archive) close(t testing.TB) []byte {
	t.Helper()
	require.NoError(t, a.w.Close())
	return a.buffer.Bytes()
}
