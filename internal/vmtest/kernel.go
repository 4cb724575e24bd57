package vmtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// DefaultPackage is the package whose kernel is used unless another is asked for: it depends on Debian's newest cloud kernel. On Ubuntu,
// which has no package of that name, it is UbuntuPackage.
const (
	DefaultPackage = "linux-image-cloud-amd64"
	UbuntuPackage  = "linux-image-virtual"
)

// defaultPackage chooses by the contents of os-release(5).
func defaultPackage(osRelease []byte) string {
	for line := range strings.Lines(string(osRelease)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		if (key == "ID" || key == "ID_LIKE") && slices.Contains(strings.Fields(strings.Trim(value, `"'`)), "ubuntu") {
			return UbuntuPackage
		}
	}
	return DefaultPackage
}

// Kernel says which kernel boots.
type Kernel struct {
	Package string // of the apt archive; empty means DefaultPackage. A meta package is followed to the image it depends on.
	Version string // of Package; empty means the one that apt prefers when it is downloaded first
	Dir     string // a folder with boot/vmlinuz-* and lib/modules/*, used as it is instead of a package
	Cache   string // where packages are unpacked; empty means $PODPLUMB_VM_CACHE, else "podplumb-vm" in the user's cache folder
}

// Image is a kernel on the host's disk.
type Image struct {
	Release string // as uname -r prints it
	Vmlinuz string
	Modules string // the folder lib/modules/RELEASE
}

// requirePrograms looks for programs and returns a MissingError that names the packages of those that are not there.
func requirePrograms(programs map[string]string) error {
	var missing MissingError
	for _, program := range []string{"qemu-system-x86_64", "apt-get", "apt-cache", "dpkg-deb", "zstd", "xz", "gzip"} {
		pkg, wanted := programs[program]
		if !wanted {
			continue
		}
		if _, err := exec.LookPath(program); err != nil {
			missing.Programs = append(missing.Programs, program)
			if !strings.Contains(" "+strings.Join(missing.Packages, " ")+" ", " "+pkg+" ") {
				missing.Packages = append(missing.Packages, pkg)
			}
		}
	}
	if missing.Programs == nil {
		return nil
	}
	return &missing
}

// Fetch returns the kernel's image, downloading and unpacking its package when the cache does not have it yet. Nothing is
// installed. A cached kernel is used until its folder is removed.
func Fetch(ctx context.Context, k Kernel) (Image, error) {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return Image{}, fmt.Errorf("vmtest: needs linux/amd64, this is %s/%s: %w", runtime.GOOS, runtime.GOARCH, errors.ErrUnsupported)
	}
	if k.Dir != "" {
		return openImage(k.Dir)
	}
	if k.Package == "" {
		release, _ := os.ReadFile("/etc/os-release") // none: some other system with apt
		k.Package = defaultPackage(release)
	}
	if k.Cache == "" {
		k.Cache = os.Getenv("PODPLUMB_VM_CACHE")
	}
	if k.Cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return Image{}, fmt.Errorf("vmtest: no cache folder (set PODPLUMB_VM_CACHE): %w", err)
		}
		k.Cache = filepath.Join(user, "podplumb-vm")
	}
	name := k.Package
	if k.Version != "" {
		name += "=" + k.Version
	}
	dir := filepath.Join(k.Cache, strings.ReplaceAll(name, "/", "_"))
	if image, err := openImage(dir); err == nil {
		return image, nil
	}
	if err := download(ctx, k, name, dir); err != nil {
		return Image{}, fmt.Errorf("vmtest: kernel %s: %w", name, err)
	}
	return openImage(dir)
}

// openImage finds the newest kernel in dir that has its modules.
func openImage(dir string) (Image, error) {
	kernels, err := filepath.Glob(filepath.Join(dir, "boot", "vmlinuz-*"))
	if err != nil {
		return Image{}, fmt.Errorf("vmtest: %s: %w", dir, err)
	}
	for i := len(kernels) - 1; i >= 0; i-- {
		release := strings.TrimPrefix(filepath.Base(kernels[i]), "vmlinuz-")
		for _, lib := range []string{"lib", "usr/lib"} {
			modules := filepath.Join(dir, lib, "modules", release)
			if info, err := os.Stat(modules); err == nil && info.IsDir() {
				return Image{Release: release, Vmlinuz: kernels[i], Modules: modules}, nil
			}
		}
	}
	return Image{}, fmt.Errorf("vmtest: %s has no boot/vmlinuz-* with its lib/modules: %w", dir, os.ErrNotExist)
}

// download unpacks the package beside dir and renames it into place, so that two runs at once do no harm.
func download(ctx context.Context, k Kernel, name, dir string) error {
	if err := requirePrograms(map[string]string{"apt-get": "apt", "apt-cache": "apt", "dpkg-deb": "dpkg"}); err != nil {
		return err
	}
	if err := os.MkdirAll(k.Cache, 0o755); err != nil {
		return err
	}
	work, err := os.MkdirTemp(k.Cache, ".fetch-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	packages, err := imagePackages(ctx, name)
	if err != nil {
		return err
	}
	if _, err := output(ctx, work, "apt-get", append([]string{"-q", "download"}, packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(work, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		return fmt.Errorf("apt-get download %s left %d packages", strings.Join(packages, " "), len(debs))
	}
	tree := filepath.Join(work, "tree")
	for _, deb := range debs {
		if _, err := output(ctx, work, "dpkg-deb", "-x", deb, tree); err != nil {
			return err
		}
	}
	if err := expandModules(ctx, tree); err != nil {
		return err
	}
	if _, err := openImage(tree); err != nil {
		return err
	}
	if err := os.Chmod(tree, 0o755); err != nil {
		return err
	}
	if err := os.Rename(tree, dir); err != nil {
		if _, open := openImage(dir); open == nil {
			return nil // another run was first
		}
		return err
	}
	return nil
}

// output runs a program of the host and puts what it said into the error.
func output(ctx context.Context, dir, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.Bytes(), nil
}
